"""Returns the lease of a child that died with a node execution, or was killed for overrunning.

Such a child cannot settle. The main process returns the lease at once, so that the node execution runs again (after
an overrun: if it has a retry left) without waiting for the lease to run out. If it was settled, this does nothing.
"""

import logging
from typing import Any, Final, Literal

from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import WorkerLostError
from celery.exceptions import Retry
from celery.worker import state as celery_state
from celery.worker.request import Request
from celery.worker.state import task_ready

from agentflow.dispatch.publish import KILL_AFTER
from agentflow.storage.hot.node_executions import Standing
from agentflow.worker.endings import NodeExecutionFailed, NodeExecutionStopped, PostgresAway, lost
from agentflow.worker.keeper import keeper
from agentflow.worker.shutdown import say_stopping, stopping_was_said

logger = logging.getLogger(__name__)

_UNTIL_DEAD: Final = 30.0
"""Seconds in which a child takes notice of the signal that ends it."""


class NodeRequest(Request):  # type: ignore[misc]
    """Celery's record of one delivered message, in the main process."""

    killed_for: Literal["overran", "stopped"] | None = None
    """Why the keeper killed its child, if it did."""

    @property
    def kill_after(self) -> float | None:
        """Seconds after which a child that still executes it is killed; None: never."""
        limit: float | None = self.request_dict.get(KILL_AFTER)
        return limit

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> Any:
        """Stop the worker without waiting for it."""
        say_stopping(_UNTIL_DEAD)
        return super().cancel(pool, signal=signal, emit_retry=emit_retry)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        error = _raised(exc_info)
        overran, stopping = self.killed_for == "overran", stopping_was_said()
        died_by_itself = isinstance(error, WorkerLostError) and self.killed_for is None
        dead = died_by_itself and not celery_state.should_terminate
        if not _is_settled(error):
            keeper().return_lease(
                self.args,
                self.worker_pid,
                timed_out=overran,
                died=(died_by_itself or self.killed_for is not None) and not stopping,
                told=self._announce_lost if (dead or overran) and not stopping else None,
            )
        if self.killed_for is not None:
            return self._end_killed()
        if dead:
            return self._end_lost(error)
        if isinstance(error, NodeExecutionFailed | NodeExecutionStopped | Retry):
            exc_info.traceback = ""  # of our own `raise`; the log has a block's
        if isinstance(error, NodeExecutionStopped):
            self._announce_stopped()
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def _end_killed(self) -> None:
        """Note the killed child. The keeper has logged it, and the engine decides about the node execution."""
        task_ready(self)
        self.acknowledge()
        if self.killed_for == "stopped":
            self._announce_stopped()
        elif stopping_was_said():
            self._announce_lost(None)

    def _end_lost(self, error: WorkerLostError) -> None:
        """Note the child that died by itself: a line in the log and no traceback.

        The keeper returns the lease and publishes what runs again, so this message is done. (A worker that stops may
        not get there: then the message goes back.)
        """
        run_id, node, idx = self.args
        fields = {"run": run_id, "node": node, "index": idx, "child": self.worker_pid, "error": str(error)}
        logger.warning("child_lost", extra=fields)
        task_ready(self)
        if stopping_was_said():
            self.reject(requeue=True)
            self._announce_lost(None)
        else:
            self.acknowledge()

    def _announce_lost(self, stands: Standing | None) -> None:
        """Announce the state after the child's death (None: unknown). Called by a thread of the keeper."""
        ended = lost(stands)
        if ended is None:
            self.send_event("task-succeeded", result=None, runtime=None)
        elif isinstance(ended, NodeExecutionStopped):
            self._announce_stopped()
        else:
            kind = "task-failed" if isinstance(ended, NodeExecutionFailed) else "task-retried"
            self.send_event(kind, exception=repr(ended), traceback="")

    def _announce_stopped(self) -> None:
        self.send_event("task-revoked", terminated=self.killed_for is not None, signum=None, expired=False)


def _raised(exc_info: Any) -> Any:
    error = exc_info.exception
    return error.exc if isinstance(error, ExceptionWithTraceback) else error


def _is_settled(error: Any) -> bool:
    """Whether the task's end tells the state of its node execution; else its lease is free, or its process is gone."""
    if isinstance(error, Retry):
        return not isinstance(error.exc, PostgresAway)
    return isinstance(error, NodeExecutionFailed | NodeExecutionStopped)
