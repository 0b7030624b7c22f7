"""Authenticates requests by their API key.

Verified keys are cached for a short time, so that most requests need no look-up. A revoked key may work that long.
"""

from collections import OrderedDict
from threading import Lock
from uuid import UUID

from flask import Request

from agentflow import clock
from agentflow.errors import Unauthenticated
from agentflow.services import api_keys
from agentflow.services.transaction import transaction

CACHE_SECONDS = 30.0
MAX_CACHED = 10_000
"""The most keys in the cache."""


class Authenticator:
    """Verifies keys, and caches the digests of valid ones."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._cached: OrderedDict[str, tuple[UUID, float]] = OrderedDict()  # digest → owner, expiry

    def owner_of(self, key: str) -> UUID:
        """The owner of a key.

        Raises:
            Unauthenticated: it is nobody's.
        """
        digest = api_keys.digest(key)
        with self._lock:
            owner, until = self._cached.get(digest, (None, 0.0))
        if owner is not None and clock.monotonic() < until:
            return owner
        with transaction() as session:
            owner = api_keys.verify(session, key)
        with self._lock:
            self._cached[digest] = (owner, clock.monotonic() + CACHE_SECONDS)
            self._cached.move_to_end(digest)
            if len(self._cached) > MAX_CACHED:
                self._cached.popitem(last=False)
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
