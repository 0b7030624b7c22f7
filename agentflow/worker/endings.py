"""Says how a Celery task ends, so that Flower and readers of Celery's events see what became of the node execution.

    it ended FAILED                       task-failed, with what the block said
    it will be tried again                task-retried, with why; also where its lease or its process was lost
    its run was stopped                   task-revoked
    it is COMPLETED, waits, or was none   task-succeeded

Each but the last is raised by the task when everything is recorded; nothing follows from it. There is no traceback:
the engine's own log (`worker/reports.py`) has what a block raised, and a node execution that fails is no fault of the
worker. That PostgreSQL is away is told as a retry as well; then the lease is free, and recovery sees to it.
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
    """It cannot be said what became of it; recovery sees to it."""


def ending(transition: Transition, settled: Settled) -> Exception | None:
    """How the task ends whose attempt was settled so, and still had its lease; None: it has succeeded."""
    if settled.verdict == "stopped":
        return _stopped()
    if transition.status is NodeStatus.FAILED:
        return _failed(transition.error or transition.reason or "")
    return _retried(transition.error or "again") if transition.status is NodeStatus.QUEUED else None


def lost(stands: Standing | None) -> Exception | None:
    """How the task of an attempt ends that lost its lease, or its process: as the node execution stands then.

    Args:
        stands: how that is; None: nobody knows.
    """
    if stands is None or stands.status in (NodeStatus.QUEUED, NodeStatus.RUNNING):
        return _retried("its lease was lost, and it runs again")
    if stands.status is NodeStatus.CANCELLED:
        return _stopped()
    return _failed(stands.error or "") if stands.status is NodeStatus.FAILED else None


def postgres_away(error: Exception) -> Exception:
    """How a task ends that PostgreSQL was away for."""
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
    """Events are kept in memory by who watches; the whole of it stands in the node execution."""
    return text if len(text) <= _LIMIT else f"{text[:_LIMIT]} …"
