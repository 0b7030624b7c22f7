"""Tells a child process whether its worker stops, or something else (the block that it runs) told it to end.

Both reach the child as the same signal. A lease that a stopping worker returns is no loss, however often that happens;
a block that ends its own process would run for ever if that were no loss either. So before the main process ends a
child, it says so in memory that it shares with its children.
"""

import math
import mmap
import time
from typing import Final

from agentflow.clock import monotonic

_PATIENCE: Final = 1.0
"""Seconds in which the main process says so: a service manager signals it and its children at the same moment."""

_shared = memoryview(mmap.mmap(-1, 8)).cast("d")
"""Until when, on the monotonic clock, a child that is told to end is told so by its main process. Shared over forks."""


def say_stopping(seconds: float = math.inf) -> None:
    """In the main process: say that children which are told to end within so many seconds are told by their worker."""
    _shared[0] = max(_shared[0], monotonic() + seconds)


def stopping_was_said() -> bool:
    """Whether the main process has told its children to end."""
    return monotonic() <= _shared[0]


def is_stopping() -> bool:
    """In a child that was told to end: whether its worker wants that."""
    give_up_at = monotonic() + _PATIENCE
    while not (said := stopping_was_said()) and monotonic() < give_up_at:
        time.sleep(0.02)
    return said
