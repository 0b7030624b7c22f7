"""Finds what keeps a run from continuing: open node executions, who holds the limits they wait for, its place in line.

It takes no gate, so what it finds may have changed meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row, Select, func, select, text
from sqlalchemy.orm import Session

from agentflow.engine.statuses import NodeStatus
from agentflow.storage.tables import ACTIVE, LimitQueue, LimitSlot, NodeExecution, Run

AnyRow = Row[*tuple[Any, ...]]

_GOING = (NodeStatus.RUNNING, NodeStatus.WAITING, NodeStatus.QUEUED)


@dataclass(frozen=True, slots=True)
class Group:
    """Open node executions of one node in the same state: how many, and the first of them."""

    node: int
    status: str
    hold: str | None
    count: int
    idx: int
    since: datetime | None
    due_at: datetime | None
    holder: str | None


class Place(NamedTuple):
    """A slot of a limit: its key, and the node execution that has it."""

    key: str
    run_id: UUID
    node: int
    idx: int
    since: datetime


def groups(session: Session, run_id: UUID, limit: int) -> Sequence[Group]:
    """The open node executions of a run, by node and state."""
    e = NodeExecution
    since = func.min(func.coalesce(e.started_at, e.queued_at))
    rows = session.execute(
        select(e.node, e.status, e.hold, func.count(), func.min(e.idx), since, func.min(e.due_at), func.min(e.holder))
        .where(e.run_id == run_id, e.status.in_(_GOING))
        .group_by(e.node, e.status, e.hold)
        .order_by(e.node, e.status, e.hold)
        .limit(limit)
    )
    return [Group(*row) for row in rows]


def places(session: Session, run_id: UUID, node: int, limit: int) -> Sequence[Place]:
    """Who has the slots for which the node executions of a node wait; not of limits that span all owners."""
    keys = select(LimitQueue.owner_id, LimitQueue.key).where(LimitQueue.run_id == run_id, LimitQueue.node == node)
    wanted = keys.distinct().subquery()
    s = LimitSlot
    rows = session.execute(
        select(s.key, s.run_id, s.node, s.idx, s.since)
        .join(wanted, (wanted.c.owner_id == s.owner_id) & (wanted.c.key == s.key))
        .join(Run, (Run.id == run_id) & (Run.owner_id == s.owner_id))
        .order_by(s.since)
        .limit(limit)
    )
    return [Place(*row) for row in rows]


def waits_for_credential(session: Session, run_id: UUID, node: int) -> bool:
    """Whether the first node execution of a node that waits for a slot waits for a credential."""
    q = LimitQueue
    key = session.scalar(select(q.key).where(q.run_id == run_id, q.node == node).order_by(q.idx).limit(1))
    return key is not None and key.startswith("credential:")


def ahead(session: Session, run_id: UUID, node: int) -> int:
    """How many node executions wait for the same slots before the first of a node."""
    own = (
        select(LimitQueue.owner_id, LimitQueue.key, LimitQueue.priority, func.min(LimitQueue.id).label("id"))
        .where(LimitQueue.run_id == run_id, LimitQueue.node == node)
        .group_by(LimitQueue.owner_id, LimitQueue.key, LimitQueue.priority)
        .subquery()
    )
    q = LimitQueue
    sooner = (q.priority > own.c.priority) | ((q.priority == own.c.priority) & (q.id < own.c.id))
    same = (q.owner_id == own.c.owner_id) & (q.key == own.c.key) & sooner
    return session.scalar(select(func.count()).select_from(q).join(own, same)) or 0


def active(session: Session, owner_id: UUID) -> int:
    """How many runs of an owner count as active."""
    return session.scalar(select(func.count()).select_from(Run).where(Run.owner_id == owner_id, text(ACTIVE))) or 0


def of_key(session: Session, owner_id: UUID, key: str, limit: int) -> Sequence[UUID]:
    """Runs with this key that go on, the oldest first."""
    return session.scalars(_going_on(owner_id, key).order_by(Run.id).limit(limit)).all()


def open_of_key(session: Session, owner_id: UUID, key: str) -> int:
    """How many runs with this key go on."""
    return session.scalar(select(func.count()).select_from(_going_on(owner_id, key).subquery())) or 0


def _going_on(owner_id: UUID, key: str) -> Select[UUID]:
    return select(Run.id).where(
        Run.owner_id == owner_id, Run.run_key == key, Run.ended_at.is_(None), Run.admitted_at.is_not(None)
    )


def limit_of_key(session: Session, owner_id: UUID, key: str) -> int | None:
    """How many runs with this key may be open: as the newest version says of those that are not ended."""
    query = select(Run.run_key_limit).where(Run.owner_id == owner_id, Run.run_key == key, Run.ended_at.is_(None))
    return session.scalar(query.order_by(Run.graph_version.desc()).limit(1))


def earlier(session: Session, owner_id: UUID, run_id: UUID, priority: int) -> int:
    """How many runs of an owner wait to be admitted before this one."""
    before = (Run.priority > priority) | ((Run.priority == priority) & (Run.id < run_id))
    waiting = (Run.owner_id == owner_id) & Run.ended_at.is_(None) & Run.admitted_at.is_(None)
    return session.scalar(select(func.count()).select_from(Run).where(waiting, before)) or 0
