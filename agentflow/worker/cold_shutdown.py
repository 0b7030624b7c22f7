"""Stops a worker at once, but between two turns of its main loop and not in the middle of one.

Celery does it within the signal's handler, wherever the main process is at that moment. If that is writing a job to a
child, the child waits for the rest of the job for ever, and the worker for the child, until it is killed. So the
handler only sets a flag, and the loop stops where it checks whether to end.
"""

import signal
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.apps.worker import REMAP_SIGTERM
from celery.bootsteps import RUN
from celery.worker import state
from celery.worker.consumer import consumer as celery_consumer

_Handler = Callable[[int, Any], object]


class _Noted:
    """What the loop's next turn must raise; None: nothing."""

    shutdown: Callable[[], object] | None = None


_ask = state.maybe_shutdown


def defer(consumer: Any) -> None:
    """Let a signal that stops this worker at once wait for the end of the loop's turn, from now on.

    Args:
        consumer: the worker's consumer, which is ready: Celery's handlers are in place.
    """
    for number in (signal.SIGQUIT, signal.SIGTERM) if REMAP_SIGTERM == "SIGQUIT" else (signal.SIGQUIT,):
        at_once = signal.getsignal(number)
        if callable(at_once):
            signal.signal(number, partial(_note, consumer, at_once))
    state.maybe_shutdown = celery_consumer.maybe_shutdown = _maybe_shutdown


def _note(consumer: Any, at_once: _Handler, number: int, frame: Any) -> None:
    """Handle the signal. A loop that is over has no next turn: then the main process only waits."""
    if consumer.blueprint.state == RUN:
        _Noted.shutdown = partial(at_once, number, None)
    else:
        at_once(number, frame)


def _maybe_shutdown() -> None:
    """Called by Celery once a turn, and while it waits for the broker to come back."""
    shutdown, _Noted.shutdown = _Noted.shutdown, None
    if shutdown is not None:
        shutdown()
    _ask()
