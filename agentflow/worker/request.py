"""What does the worker's main process do when a child dies with a node execution, or is killed for overrunning?

The child cannot settle any more. The main process gives the lease back at once, so that the node execution runs again
(or, after an overrun, ends FAILED) without waiting for the lease to run out. Giving back what was settled does nothing.
"""

from typing import Any, Final

from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import TimeLimitExceeded
from celery.worker.request import Request

from agentflow.worker.keeper import keeper
from agentflow.worker.shutdown import say_stopping

_UNTIL_DEAD: Final = 30.0
"""Seconds in which a child takes notice of the signal that ends it."""


class NodeRequest(Request):  # type: ignore[misc]
    """Celery's record of one delivered message, in the main process."""

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> Any:
        """The worker stops without waiting for it."""
        say_stopping(_UNTIL_DEAD)
        return super().cancel(pool, signal=signal, emit_retry=emit_retry)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        # The task itself raises only when it could not settle (PostgreSQL was away): its lease is free as well.
        keeper().give_back(self.args, self.worker_pid, timed_out=isinstance(error, TimeLimitExceeded))
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
