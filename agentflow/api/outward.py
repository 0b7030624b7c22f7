"""Bounds requests during which this process calls another service: how often a user's, and how many at a time.

Such a service may take its time, and a request that waits for it occupies a thread. So only a part of the threads may
wait like that, and one user gets at most half of that part.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from flask import Flask, current_app

from agentflow.api.places import Places
from agentflow.api.rate import OutwardLimit

_SHARE: Final = 4
"""One thread in so many may wait for other services."""

_PLACES: Final = "outward_places"


def install(app: Flask, threads: int) -> None:
    """Let some of so many threads wait for other services."""
    app.extensions[_PLACES] = Places("calls to other services", max(2, threads // _SHARE))


@contextmanager
def calling_out(user_id: UUID) -> Iterator[None]:
    """While a user has another service called.

    Raises:
        TooMany: they did so too often, or wait for others already.
        Busy: too many wait.
    """
    limit: OutwardLimit = current_app.extensions["outward_limit"]
    places: Places = current_app.extensions[_PLACES]
    limit.take(user_id)
    places.take(user_id)
    try:
        yield
    finally:
        places.release(user_id)
