"""Authenticates requests by their API key.

Verified keys are cached for a short time, so that most requests need no look-up. A revoked key may work that long.
"""

from threading import Lock
from uuid import UUID

from cachetools import TTLCache
from flask import Request

from agentflow import clock
from agentflow.accounts import keys
from agentflow.errors import Unauthenticated
from agentflow.services.transaction import transaction

CACHE_SECONDS = 30.0
MAX_CACHED = 10_000
"""The most keys in the cache."""


class Authenticator:
    """Verifies keys, and caches the digests of valid ones."""

    def __init__(self) -> None:
        self._lock = Lock()
        # Digest → owner. The clock is looked up at each use, so that tests can set it.
        self._cached: TTLCache[str, UUID, float] = TTLCache(MAX_CACHED, CACHE_SECONDS, lambda: clock.monotonic())

    def owner_of(self, key: str) -> UUID:
        """The owner of a key.

        Raises:
            Unauthenticated: it is nobody's.
        """
        digest = keys.digest(key)
        with self._lock:
            cached = self._cached.get(digest)
        if cached is not None:
            return cached
        with transaction() as session:
            owner = keys.verify(session, key)
        with self._lock:
            self._cached[digest] = owner
        return owner


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
