"""When is a process that ended by itself started again? Soon, then later and later; and no more if it keeps ending."""

from collections import deque
from typing import Final

MOST: Final = 5
"""Ends within `WINDOW` after which a process is given up."""

WINDOW: Final = 60.0
"""Seconds."""

FIRST_PAUSE: Final = 0.5
"""Seconds before the first new start; each further one within the window waits twice as long."""


class Restarts:
    """The ends of one process, and what follows from them."""

    def __init__(self) -> None:
        self._ends: deque[float] = deque(maxlen=MOST)

    def ended(self, now: float) -> float | None:
        """Take note of an end. Returns the seconds after which to start it again; None: it is given up."""
        while self._ends and now - self._ends[0] > WINDOW:
            self._ends.popleft()
        self._ends.append(now)
        return None if len(self._ends) == MOST else FIRST_PAUSE * 2.0 ** (len(self._ends) - 1)
