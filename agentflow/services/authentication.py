"""Verifies API keys and sessions, for whatever takes requests: web and live processes.

Verified keys and sessions are cached for a short time, so that most requests need no look-up. One that is withdrawn is
told to all these processes through Redis, and stops within a second; without Redis, when it is no longer cached.
"""

from collections.abc import Callable
from threading import Lock
from typing import Final
from uuid import UUID

from cachetools import TTLCache
from sqlalchemy.orm import Session

from agentflow import clock
from agentflow.accounts import keys, sessions
from agentflow.accounts.keys import Caller
from agentflow.dispatch import notices
from agentflow.services.transaction import after_commit, transaction

CACHE_SECONDS = 30.0
MAX_CACHED = 10_000
"""The most keys and sessions in the cache."""

COOKIE: Final = "agentflow_session"
"""The name of the cookie with a session's secret, but see `cookie_name`."""

CHANGES: Final = "keys"
"""The notices of users whose keys or sessions have changed."""


class Authenticator:
    """Verifies keys and sessions, and caches the digests of valid ones."""

    def __init__(self) -> None:
        self._lock = Lock()
        # What it is, and its digest → caller. The clock is looked up at each use, so that tests can set it.
        self._cached: TTLCache[str, Caller, float] = TTLCache(MAX_CACHED, CACHE_SECONDS, lambda: clock.monotonic())
        self._withdrawals = 0
        self._listener = notices.Listener(CHANGES, self)

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
    """Once `session` is committed, let every process look anew at the keys and sessions of a user."""
    after_commit(session, lambda: notices.tell(CHANGES, str(user_id)))


def cookie_name(*, secure: bool) -> str:
    """The cookie's name. Over TLS it begins with `__Host-`: browsers then let no other host or path set it."""
    return f"__Host-{COOKIE}" if secure else COOKIE
