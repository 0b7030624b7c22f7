"""Turns stop signals (Ctrl-C, SIGTERM, a closed terminal) into a flag.

An exception could interrupt a start or a stop half-way, and leave something running. The flag is checked only where
stopping is safe.
"""

import signal
import time
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL = 0.05


class Halt:
    """Counts stop signals instead of obeying them. A context manager, for the main thread only."""

    def __init__(self) -> None:
        self._count = 0
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a stop was requested."""
        return self._count > 0

    def urgent(self) -> bool:
        """Whether it was requested again: do not wait for slow processes."""
        return self._count > 1

    def wait(self, seconds: float) -> bool:
        """Wait that long, or until a stop is requested. Returns whether it was."""
        deadline = time.monotonic() + seconds
        while not self.requested and time.monotonic() < deadline:
            time.sleep(_POLL)
        return self.requested

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._previous[number] = signal.signal(number, self._count_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _count_signal(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
