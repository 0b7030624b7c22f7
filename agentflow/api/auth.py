"""Authenticates requests by their API key, or by the cookie of a session.

Verified keys and sessions are cached for a short time, so that most requests need no look-up. One that is withdrawn is
told to all web processes through Redis, and stops within a second; without Redis, when it is no longer cached.

A browser sends cookies also with requests that a foreign page makes it send. So what changes something with a cookie
must bring the session's CSRF token, too, which a foreign page cannot know. A key needs none: no browser adds it.
"""

from collections.abc import Callable
from threading import Lock
from typing import Final
from uuid import UUID

from cachetools import TTLCache
from flask import Request, Response
from sqlalchemy.orm import Session

from agentflow import clock
from agentflow.accounts import keys, sessions
from agentflow.accounts.keys import Caller
from agentflow.dispatch import notices
from agentflow.errors import Forbidden, Unauthenticated
from agentflow.services.transaction import after_commit, transaction
from agentflow.settings import settings

CACHE_SECONDS = 30.0
MAX_CACHED = 10_000
"""The most keys and sessions in the cache."""

COOKIE: Final = "agentflow_session"
"""The cookie's name. Over TLS it begins with `__Host-`: browsers then let no other host or path set it."""

CSRF_HEADER: Final = "X-CSRF-Token"

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_CHANNEL: Final = "keys"


class Authenticator:
    """Verifies keys and sessions, and caches the digests of valid ones."""

    def __init__(self) -> None:
        self._lock = Lock()
        # What it is, and its digest → caller. The clock is looked up at each use, so that tests can set it.
        self._cached: TTLCache[str, Caller, float] = TTLCache(MAX_CACHED, CACHE_SECONDS, lambda: clock.monotonic())
        self._withdrawals = 0
        self._listener = notices.Listener(_CHANNEL, self)

    def caller_of(self, key: str) -> Caller:
        """Who has this key.

        Raises:
            Unauthenticated: nobody has, or it is refused now.
        """
        return self._caller(f"key {keys.digest(key)}", keys.verify, key)

    def person_of(self, secret: str) -> Caller:
        """Whose session it is.

        Raises:
            Unauthenticated: nobody's, or it has ended.
        """
        return self._caller(f"session {sessions.digest(secret)}", sessions.verify, secret)

    def _caller(self, name: str, verify: Callable[[Session, str], Caller], secret: str) -> Caller:
        self._listener.ensure()
        with self._lock:
            caller, before = self._cached.get(name), self._withdrawals
        if caller is not None and (caller.expires_at is None or clock.now() < caller.expires_at):
            return caller
        with transaction() as session:
            caller = verify(session, secret)
        with self._lock:
            if self._withdrawals == before:  # else what was read may be from before the change
                self._cached[name] = caller
        return caller

    def heard(self, text: str) -> None:
        """Forget the keys and sessions of the user whose id is `text`."""
        with self._lock:
            self._withdrawals += 1
            for name in [name for name, caller in self._cached.items() if str(caller.user_id) == text]:
                self._cached.pop(name, None)

    def deaf(self) -> None:
        """Forget all keys and sessions."""
        with self._lock:
            self._withdrawals += 1
            self._cached.clear()


def tell_of_change(session: Session, user_id: UUID) -> None:
    """Once `session` is committed, let every web process look anew at the keys and sessions of a user."""
    after_commit(session, lambda: notices.tell(_CHANNEL, str(user_id)))


def key_in(request: Request) -> str | None:
    """The key of a request: `Authorization: Bearer <key>`, or `X-API-Key: <key>`; None: it has none."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and given.strip():
        return given.strip()
    return request.headers.get("X-API-Key", "").strip() or None


def session_in(request: Request) -> str:
    """The secret of a request's session.

    Raises:
        Unauthenticated: it has none.
        Forbidden: it changes something, and its CSRF token lacks or is another's.
    """
    secret = request.cookies.get(_cookie_name(request), "")
    if not secret:
        raise Unauthenticated
    if request.method not in _SAFE and not sessions.is_csrf_token(secret, request.headers.get(CSRF_HEADER, "")):
        raise Forbidden(f"a request with a cookie that changes something needs the session's {CSRF_HEADER} header")
    return secret


def give_cookie(request: Request, response: Response, secret: str) -> None:
    """Let the browser keep a session's secret until the session ends, out of reach of scripts and foreign sites."""
    _set_cookie(request, response, secret, int(settings().session_seconds))


def take_cookie(request: Request, response: Response) -> None:
    """Let the browser forget its session."""
    _set_cookie(request, response, "", 0)


def is_secure(request: Request) -> bool:
    """Whether the browser speaks TLS: with us, with a trusted proxy, or as `AGENTFLOW_PUBLIC_URL` says."""
    return request.is_secure or (settings().public_url or "").startswith("https:")


def _set_cookie(request: Request, response: Response, secret: str, seconds: int) -> None:
    response.set_cookie(
        _cookie_name(request),
        secret,
        max_age=seconds,
        path="/",
        secure=is_secure(request),
        httponly=True,
        samesite="Lax",
    )


def _cookie_name(request: Request) -> str:
    return f"__Host-{COOKIE}" if is_secure(request) else COOKIE
