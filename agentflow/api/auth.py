"""Authenticates requests by their API key.

Verified keys are cached for a short time, so that most requests need no look-up. A key that is revoked or suspended is
told to all web processes through Redis, and stops within a second; without Redis, when it is no longer cached.
"""

from threading import Lock
from typing import Final
from uuid import UUID

from cachetools import TTLCache
from flask import Request
from sqlalchemy.orm import Session

from agentflow import clock
from agentflow.accounts import keys
from agentflow.accounts.keys import Caller
from agentflow.dispatch import notices
from agentflow.errors import Unauthenticated
from agentflow.services.transaction import after_commit, transaction

CACHE_SECONDS = 30.0
MAX_CACHED = 10_000
"""The most keys in the cache."""

_CHANNEL: Final = "keys"


class Authenticator:
    """Verifies keys, and caches the digests of valid ones."""

    def __init__(self) -> None:
        self._lock = Lock()
        # Digest → caller. The clock is looked up at each use, so that tests can set it.
        self._cached: TTLCache[str, Caller, float] = TTLCache(MAX_CACHED, CACHE_SECONDS, lambda: clock.monotonic())
        self._withdrawals = 0
        self._listener = notices.Listener(_CHANNEL, self)

    def caller_of(self, key: str) -> Caller:
        """Who has this key.

        Raises:
            Unauthenticated: nobody has, or it is refused now.
        """
        self._listener.ensure()
        digest = keys.digest(key)
        with self._lock:
            caller, before = self._cached.get(digest), self._withdrawals
        if caller is not None and (caller.expires_at is None or clock.now() < caller.expires_at):
            return caller
        with transaction() as session:
            caller = keys.verify(session, key)
        with self._lock:
            if self._withdrawals == before:  # else what was read may be from before the change
                self._cached[digest] = caller
        return caller

    def heard(self, text: str) -> None:
        """Forget the keys of the user whose id is `text`."""
        with self._lock:
            self._withdrawals += 1
            for digest in [digest for digest, caller in self._cached.items() if str(caller.user_id) == text]:
                self._cached.pop(digest, None)

    def deaf(self) -> None:
        """Forget all keys."""
        with self._lock:
            self._withdrawals += 1
            self._cached.clear()


def tell_of_change(session: Session, user_id: UUID) -> None:
    """Once `session` is committed, let every web process look anew at the keys of a user."""
    after_commit(session, lambda: notices.tell(_CHANNEL, str(user_id)))


def key_in(request: Request) -> str:
    """The key of a request: `Authorization: Bearer <key>`, or `X-API-Key: <key>`.

    Raises:
        Unauthenticated: it has none.
    """
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and given.strip():
        return given.strip()
    if key := request.headers.get("X-API-Key", "").strip():
        return key
    raise Unauthenticated
