"""Was this process asked to stop? Ctrl-C, SIGTERM and a closed terminal, as a question and not as an exception.

An exception could strike in the middle of a start or of a stop and leave something running; this is looked at where
stopping is safe.
"""

import signal
import time
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL = 0.05


class Halt:
    """While entered, stop signals only count; a context manager, for the main thread."""

    def __init__(self) -> None:
        self._count = 0
        self._former: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether somebody asked to stop."""
        return self._count > 0

    def urgent(self) -> bool:
        """Whether somebody asked again: do not wait for what is slow to stop."""
        return self._count > 1

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until asked to stop. Returns whether it was asked."""
        deadline = time.monotonic() + seconds
        while not self.requested and time.monotonic() < deadline:
            time.sleep(_POLL)
        return self.requested

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._former[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
