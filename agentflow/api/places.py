"""Limits how many requests may wait in a process: event streams, and calls that wait for a block.

A waiting request occupies a thread. The server has one extra thread per place, so waiting takes none from ordinary
requests. One owner gets at most half of the places.
"""

from collections import Counter
from collections.abc import Callable
from threading import Event, Lock
from typing import Final
from uuid import UUID

from flask import request

from agentflow.errors import Busy, TooMany

closing: Final = Event()
"""Set when the web process is told to stop. Waiting requests are then answered, and clients reconnect elsewhere."""


class Places:
    """The places of one kind in this process.

    Args:
        what: what occupies them, in the plural.
        count: how many there are; one owner gets at most half.
    """

    def __init__(self, what: str, count: int) -> None:
        self._what = what
        self._count = count
        self._each = (count + 1) // 2
        self._taken: Counter[UUID] = Counter()
        self._lock = Lock()

    def take(self, owner: UUID) -> None:
        """Occupy a place for `owner`.

        Raises:
            TooMany: the owner has used up their share.
            Busy: all are taken.
        """
        with self._lock:
            if self._taken[owner] >= self._each:
                raise TooMany(f"{self._each} {self._what} are open for you already: close one, or ask again later")
            if self._taken.total() >= self._count:
                raise Busy(f"all {self._what} of this process are taken; ask again in a moment")
            self._taken[owner] += 1

    def release(self, owner: UUID) -> None:
        """Free a place that `owner` took."""
        with self._lock:
            self._taken[owner] -= 1
            if not self._taken[owner]:
                del self._taken[owner]


def client_gone() -> Callable[[], bool]:
    """A function that tells whether the client of this request has disconnected, even after the view returned."""
    ask: Callable[[], bool] | None = request.environ.get("waitress.client_disconnected")
    return ask or (lambda: False)
