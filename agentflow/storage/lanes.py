"""Reads which lanes workers serve: they say so themselves, every few seconds (`sql/14_lanes.sql`)."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session

from agentflow.clock import now
from agentflow.engine.statuses import NodeStatus
from agentflow.storage.tables import NodeExecution


def served(session: Session) -> frozenset[str]:
    """The lanes that some worker serves."""
    return frozenset(session.scalars(select(func.agentflow_served_lanes())))


def ready(session: Session, run_id: UUID) -> frozenset[int]:
    """The nodes of a run with node executions that only wait for a worker."""
    found = select(NodeExecution.node).where(NodeExecution.run_id == run_id, _only_waits_for_a_worker())
    return frozenset(session.scalars(found.distinct()))


def ready_for(session: Session, wait: timedelta, limit: int) -> dict[UUID, set[int]]:
    """Runs with node executions that have only waited for a worker for at least `wait`, and their nodes.

    Args:
        session: the transaction.
        wait: how long.
        limit: nodes of runs that are looked at, at most.
    """
    e = NodeExecution
    since = now() - wait
    found = select(e.run_id, e.node).where(_only_waits_for_a_worker(since), e.queued_at <= since)
    nodes: dict[UUID, set[int]] = {}
    for run_id, node in session.execute(found.distinct().limit(limit)):
        nodes.setdefault(run_id, set()).add(node)
    return nodes


def _only_waits_for_a_worker(since: datetime | None = None) -> ColumnElement[bool]:
    e = NodeExecution
    is_due = e.due_at.is_(None) | (e.due_at <= (since or now()))
    return and_(e.open, e.status == NodeStatus.QUEUED, e.hold.is_(None), is_due)
