"""Who may wait? Event streams, and calls that wait for a block, have so many places in a process and no more.

One that waits holds a thread. The server has a thread for each place, beside those that serve requests, so that
waiting takes none from them; and nobody gets all places. When live updates have a process of their own, these go there.
"""

from collections import Counter
from collections.abc import Callable
from threading import Event, Lock
from typing import Final
from uuid import UUID

from flask import request

from agentflow.errors import Busy, TooMany

closing: Final = Event()
"""Set when the web process is told to stop: who waits is answered, and comes back to the next one."""


class Places:
    """Places of one kind in this process: `count`, and of one owner half of them.

    Args:
        what: what occupies them, in the plural.
    """

    def __init__(self, what: str, count: int) -> None:
        self._what = what
        self._count = count
        self._each = (count + 1) // 2
        self._taken: Counter[UUID] = Counter()
        self._lock = Lock()

    def take(self, owner: UUID) -> None:
        """Occupy one for `owner`.

        Raises:
            TooMany: the owner has as many as one may have.
            Busy: all are taken.
        """
        with self._lock:
            if self._taken[owner] >= self._each:
                raise TooMany(f"{self._each} {self._what} are open for you already: close one, or ask again later")
            if self._taken.total() >= self._count:
                raise Busy(f"all {self._what} of this process are taken; ask again in a moment")
            self._taken[owner] += 1

    def give_back(self, owner: UUID) -> None:
        """Free one that `owner` took."""
        with self._lock:
            self._taken[owner] -= 1
            if not self._taken[owner]:
                del self._taken[owner]


def client_gone() -> Callable[[], bool]:
    """Tells, also after the view has returned, whether the client of the present request has closed its connection."""
    ask: Callable[[], bool] | None = request.environ.get("waitress.client_disconnected")
    return ask or (lambda: False)
