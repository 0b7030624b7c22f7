"""Counts what ran for an owner: for summaries, and to see what keeps failing."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agentflow.engine.statuses import NodeStatus, RunStatus
from agentflow.notifications.tables import NotificationChannel
from agentflow.storage.tables import GraphHead, NodeExecution, Run, RunCost


class OfGraph(NamedTuple):
    """What ran of one graph."""

    name: str
    runs: int
    failed: int


class Activity(NamedTuple):
    """What ran for an owner, without child runs. `graphs`: those with most runs, in this order."""

    runs: int
    completed: int
    failed: int
    cancelled: int
    cost: int
    graphs: Sequence[OfGraph]


class OfNode(NamedTuple):
    """How often a node of a graph executed, and failed; `error`: one of those."""

    graph_id: UUID
    graph_version: int
    node: int
    executions: int
    failed: int
    error: str | None


def of_period(session: Session, owner_id: UUID, since: datetime, until: datetime, most: int) -> Activity:
    """What was submitted within a period."""
    within = (
        Run.owner_id == owner_id,
        Run.id >= func.agentflow_id_at(since),
        Run.id < func.agentflow_id_at(until),
        Run.parent_run_id.is_(None),
    )
    counts = select(Run.status, func.count(), func.coalesce(func.sum(RunCost.cost), 0)).outerjoin(
        RunCost, RunCost.root_id == Run.id
    )
    rows = session.execute(counts.where(*within).group_by(Run.status)).all()
    numbers = {status: number for status, number, _ in rows}
    failed = func.count().filter(Run.status == RunStatus.FAILED)
    graphs = (
        select(func.max(GraphHead.name), func.count(), failed)
        .select_from(Run)
        .join(GraphHead, GraphHead.id == Run.graph_id)
        .where(*within)
        .group_by(Run.graph_id)
        .order_by(func.count().desc(), func.max(GraphHead.name))
        .limit(most)
    )
    return Activity(
        sum(numbers.values()),
        numbers.get(RunStatus.COMPLETED, 0),
        numbers.get(RunStatus.FAILED, 0),
        numbers.get(RunStatus.CANCELLED, 0),
        int(sum(cost for *_, cost in rows)),
        [OfGraph(*row) for row in session.execute(graphs).all()],
    )


def with_failures(session: Session, since: datetime, limit: int) -> Sequence[UUID]:
    """Owners with a channel over which they can be told, of whom a run was submitted since then and failed."""
    failed = (
        select(Run.id)
        .where(
            Run.owner_id == NotificationChannel.owner_id,
            Run.status == RunStatus.FAILED,
            Run.id >= func.agentflow_id_at(since),
        )
        .exists()
    )
    query = select(NotificationChannel.owner_id).distinct().where(NotificationChannel.enabled, failed)
    return session.scalars(query.limit(limit)).all()


def by_node(session: Session, owner_id: UUID, since: datetime, runs: int) -> Sequence[OfNode]:
    """How the nodes fared in the owner's last runs that were submitted since then, at most so many of them."""
    recent = (
        select(Run.id, Run.graph_id, Run.graph_version)
        .where(Run.owner_id == owner_id, Run.id >= func.agentflow_id_at(since))
        .order_by(Run.id.desc())
        .limit(runs)
        .subquery()
    )
    failed = NodeExecution.status == NodeStatus.FAILED
    query = (
        select(
            recent.c.graph_id,
            recent.c.graph_version,
            NodeExecution.node,
            func.count(),
            func.count().filter(failed),
            func.max(NodeExecution.error).filter(failed),
        )
        .join(NodeExecution, NodeExecution.run_id == recent.c.id)
        .where(NodeExecution.status.in_((NodeStatus.COMPLETED, NodeStatus.FAILED)))
        .group_by(recent.c.graph_id, recent.c.graph_version, NodeExecution.node)
    )
    return [OfNode(*row) for row in session.execute(query).all()]
