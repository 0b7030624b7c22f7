"""Reads which lanes workers serve: they say so themselves, every few seconds (`sql/14_lanes.sql`)."""

from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agentflow.clock import now
from agentflow.engine.statuses import NodeStatus
from agentflow.storage.tables import NodeExecution


def served(session: Session) -> frozenset[str]:
    """The lanes that some worker serves."""
    return frozenset(session.scalars(select(func.agentflow_served_lanes())))


def ready(session: Session, run_id: UUID) -> frozenset[int]:
    """The nodes of a run with node executions that only wait for a worker."""
    e = NodeExecution
    is_due = e.due_at.is_(None) | (e.due_at <= now())
    found = select(e.node).where(e.run_id == run_id, e.open, e.status == NodeStatus.QUEUED, e.hold.is_(None), is_due)
    return frozenset(session.scalars(found.distinct()))
