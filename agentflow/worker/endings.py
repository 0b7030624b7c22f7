"""Decides how a Celery task ends, so that Flower and readers of Celery's events see what became of its node execution.

    it ended FAILED                       task-failed, with what the block said
    it will be tried again                task-retried, with why; also where its lease or its process was lost
    its run was stopped                   task-revoked
    it is COMPLETED, waits, or was none   task-succeeded

The task raises each but the last once everything is recorded; nothing depends on it. There is no traceback: the
engine's log (`worker/reports.py`) has what a block raised, and a failed node execution is no fault of the worker. An
outage of PostgreSQL is also shown as a retry; then the lease is free, and recovery repairs it.
"""

from typing import Final

from celery.exceptions import Ignore, Retry

from agentflow.engine.settlement import Transition
from agentflow.engine.statuses import NodeStatus
from agentflow.storage.hot.node_executions import Settled, Standing

_LIMIT: Final = 500  # characters


class NodeExecutionFailed(Exception):
    """It ended FAILED; the text is what it said."""


class NodeExecutionStopped(Ignore):  # type: ignore[misc]
    """Its run was stopped."""


class PostgresAway(Exception):
    """What became of it is unknown; recovery repairs it."""


def ending(transition: Transition, settled: Settled) -> Exception | None:
    """How the task ends whose attempt was settled so and had its lease; None: it succeeds."""
    if settled.verdict == "stopped":
        return _stopped()
    if transition.status is NodeStatus.FAILED:
        return _failed(transition.error or transition.reason or "")
    return _retried(transition.error or "again") if transition.status is NodeStatus.QUEUED else None


def lost(stands: Standing | None) -> Exception | None:
    """How the task ends whose attempt lost its lease or its process: by the node execution's present state.

    Args:
        stands: that state; None: unknown.
    """
    if stands is None or stands.status in (NodeStatus.QUEUED, NodeStatus.RUNNING):
        return _retried("its lease was lost, and it runs again")
    if stands.status is NodeStatus.CANCELLED:
        return _stopped()
    return _failed(stands.error or "") if stands.status is NodeStatus.FAILED else None


def postgres_away(error: Exception) -> Exception:
    """How a task ends during an outage of PostgreSQL."""
    ended: Exception = Retry("PostgreSQL is away", PostgresAway(str(error)))
    return ended


def _stopped() -> NodeExecutionStopped:
    return NodeExecutionStopped("its run was stopped")


def _failed(message: str) -> NodeExecutionFailed:
    return NodeExecutionFailed(_short(message))


def _retried(why: str) -> Exception:
    ended: Exception = Retry(_short(why), _failed(why))
    return ended


def _short(text: str) -> str:
    """Cut `text`: watchers keep events in memory. The node execution has all of it."""
    return text if len(text) <= _LIMIT else f"{text[:_LIMIT]} …"
