"""Stops a worker at once, but between two turns of its main loop and not in the middle of one.

Celery does it within the signal's handler, wherever the main process is just then. Where that was writing a job to a
child, the child waits for the rest of the job for ever, and the worker for the child: it ends when it is killed. So the
handler only takes note, and the loop does it at the place where it asks whether to end.
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
    """What the next turn of the loop is to do; None: to go on."""

    shutdown: Callable[[], object] | None = None


_ask = state.maybe_shutdown


def defer(consumer: Any) -> None:
    """From now on, a signal that is to stop this worker at once waits for the end of the loop's turn.

    Args:
        consumer: the worker's consumer, which is ready: Celery's handlers are in place.
    """
    for number in (signal.SIGQUIT, signal.SIGTERM) if REMAP_SIGTERM == "SIGQUIT" else (signal.SIGQUIT,):
        at_once = signal.getsignal(number)
        if callable(at_once):
            signal.signal(number, partial(_note, consumer, at_once))
    state.maybe_shutdown = celery_consumer.maybe_shutdown = _maybe_shutdown


def _note(consumer: Any, at_once: _Handler, number: int, frame: Any) -> None:
    """The signal has come. A loop that is over has no next turn: there the main process only waits."""
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
