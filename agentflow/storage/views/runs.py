"""Reads runs, one or a page of them. Every function is scoped by owner; nothing is written here.

(What happened inside a run: `node_executions.py` and `events.py`.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, func, select, text
from sqlalchemy.orm import Session, aliased

from agentflow.storage.tables import RUN_INPUTS_NODE, GraphHead, NodeExecution, Output, Run

AnyRow = Row[*tuple[Any, ...]]

_parent = aliased(Run)

_COLUMNS = (
    Run.id,
    Run.graph_id,
    Run.graph_version,
    Run.status,
    Run.reason,
    Run.error,
    Run.masks,
    Run.labels,
    Run.priority,
    Run.stop_as,
    Run.stop_reason,
    Run.cancel_requested_at,
    Run.paused_at,
    Run.examine_at,
    Run.owner_id,
    Run.root_id,
    Run.forked_from,
    Run.schedule_id,
    Run.run_key,
    Run.run_key_limit,
    Run.retry_no,
    Run.parent_run_id,
    Run.parent_node,
    Run.parent_idx,
    Run.stats,
    Run.created_at,
    Run.started_at,
    Run.ended_at,
    GraphHead.name.label("graph_name"),
    _parent.graph_id.label("parent_graph_id"),
    _parent.graph_version.label("parent_graph_version"),
)

_RUNS = (
    select(*_COLUMNS)
    .join(GraphHead, GraphHead.id == Run.graph_id)
    .join(_parent, _parent.id == Run.parent_run_id, isouter=True)
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MILLISECOND = 2**48 - 1  # that a UUIDv7 can hold
_SKEW = timedelta(days=1)  # ids are made by the hosts' clocks, and `created_at` by the database's

COUNTED = 20_000
"""Node executions that are counted by status for a run that has not ended, at most: it is asked for all the time."""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs of a list are wanted; None: all. A run must have all `labels`.

    `parent`: only its child runs; `roots`: no child runs.
    """

    parent: UUID | None = None
    roots: bool = False
    status: str | None = None
    graph_id: UUID | None = None
    labels: dict[str, str] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The filter as SQL conditions."""
        wanted: list[ColumnElement[bool]] = []
        if self.status is not None:
            wanted.append(Run.status == self.status)
        if self.parent is not None:
            wanted.append(Run.parent_run_id == self.parent)
        if self.roots:
            wanted.append(Run.parent_run_id.is_(None))
        if self.graph_id is not None:
            wanted.append(Run.graph_id == self.graph_id)
        if self.labels:
            wanted.append(Run.labels.contains(self.labels))
        if self.created_after is not None:
            wanted += [Run.created_at >= self.created_after, Run.id >= _id_at(self.created_after, -_SKEW)]
        if self.created_before is not None:
            wanted += [Run.created_at < self.created_before, Run.id < _id_at(self.created_before, _SKEW)]
        return wanted


def _id_at(moment: datetime, skew: timedelta) -> UUID:
    """The lowest id of `moment`, moved by `skew`. The list is in the order of ids, so that the search ends there."""
    milliseconds = (moment - _EPOCH + skew) // timedelta(milliseconds=1)
    return UUID(int=min(max(milliseconds, 0), _LAST_MILLISECOND) << 80)


def find(session: Session, owner_id: UUID, run_id: UUID) -> AnyRow | None:
    """The run's row, if it is the owner's."""
    return session.execute(_RUNS.where(Run.id == run_id, Run.owner_id == owner_id)).one_or_none()


def find_any(session: Session, run_id: UUID) -> AnyRow | None:
    """The run's row, whoever owns it: for the engine's own use."""
    return session.execute(_RUNS.where(Run.id == run_id)).one_or_none()


def page(session: Session, owner_id: UUID, wanted: RunFilter, before: UUID | None, limit: int) -> Sequence[AnyRow]:
    """Runs, the newest first, below the id `before`."""
    query = _RUNS.where(Run.owner_id == owner_id, *wanted.conditions())
    if before is not None:
        query = query.where(Run.id < before)
    return session.execute(query.order_by(Run.id.desc()).limit(limit)).all()


def open_ids(session: Session, owner_id: UUID, wanted: RunFilter, limit: int) -> Sequence[UUID]:
    """The owner's runs that have not ended and are no child runs, the newest first."""
    query = select(Run.id).where(
        Run.owner_id == owner_id, Run.ended_at.is_(None), Run.parent_run_id.is_(None), *wanted.conditions()
    )
    return session.scalars(query.order_by(Run.id.desc()).limit(limit)).all()


def inputs(session: Session, run_id: UUID) -> dict[str, str]:
    """The run's inputs by name, as JSON text."""
    rows = session.execute(
        select(Output.pin, Output.value)
        .where(Output.run_id == run_id, Output.node == RUN_INPUTS_NODE, Output.part == 0)
        .order_by(Output.idx, Output.ordinal)
    )
    return {row.pin: row.value for row in rows}


def counts(session: Session, run_id: UUID) -> dict[str, int]:
    """Node executions of the run by status, of the first `COUNTED` ones."""
    some = select(NodeExecution.status).where(NodeExecution.run_id == run_id).limit(COUNTED).subquery()
    rows = session.execute(select(some.c.status, func.count().label("counted")).group_by(some.c.status))
    return {row.status: row.counted for row in rows}


_COSTS = text(
    "SELECT c.node, sum(c.cost)::bigint AS cost FROM ("
    "SELECT e.node, (e.stats ->> 'cost')::numeric AS cost FROM node_executions e WHERE e.run_id = :run "
    "UNION ALL "
    "SELECT r.parent_node, (r.stats ->> 'cost')::numeric FROM runs r WHERE r.parent_run_id = :run) c "
    "WHERE c.cost > 0 AND EXISTS (SELECT FROM run_costs t WHERE t.root_id = :root) GROUP BY c.node ORDER BY c.node"
)


def costs(session: Session, run_id: UUID, root_id: UUID) -> dict[int, int]:
    """Credits that each node's executions have cost, with their child runs that have ended, by node.

    Nothing is read if the whole tree, whose root is `root_id`, has cost nothing.
    """
    found = session.execute(_COSTS, {"run": run_id, "root": root_id})
    return {row.node: row.cost for row in found}
