"""Who is asking? The owner of the API key that came with the request.

A verified key is believed for a short while, so that most requests need no look-up: a revoked key may work that long.
"""

from collections import OrderedDict
from threading import Lock
from uuid import UUID

from flask import Request

from agentflow import clock
from agentflow.errors import Unauthenticated
from agentflow.services import api_keys
from agentflow.services.transaction import transaction

BELIEVED_SECONDS = 30.0
MAX_BELIEVED = 10_000
"""Keys that are believed at the same time."""


class Doorkeeper:
    """Verifies keys, and remembers digests of those it knows."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._believed: OrderedDict[str, tuple[UUID, float]] = OrderedDict()  # digest → owner, until

    def owner_of(self, key: str) -> UUID:
        """The owner of a key.

        Raises:
            Unauthenticated: it is nobody's.
        """
        digest = api_keys.digest(key)
        with self._lock:
            owner, until = self._believed.get(digest, (None, 0.0))
        if owner is not None and clock.monotonic() < until:
            return owner
        with transaction() as session:
            owner = api_keys.verify(session, key)
        with self._lock:
            self._believed[digest] = (owner, clock.monotonic() + BELIEVED_SECONDS)
            self._believed.move_to_end(digest)
            if len(self._believed) > MAX_BELIEVED:
                self._believed.popitem(last=False)
        return owner


def key_in(request: Request) -> str:
    """The key that a request carries: `Authorization: Bearer <key>`, or `X-API-Key: <key>`.

    Raises:
        Unauthenticated: it carries none.
    """
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and given.strip():
        return given.strip()
    if key := request.headers.get("X-API-Key", "").strip():
        return key
    raise Unauthenticated
