"""Reads a child run's outputs and end, for the node execution that waits for it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import merge
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, Row, Select, column, exists, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session, aliased

from agentflow.engine.statuses import NODE_TERMINAL, FailureReason, NodeStatus
from agentflow.storage.runs import Parent
from agentflow.storage.tables import NodeExecution, Output, Run

OUTPUT_PIN = "output"
NAME_PIN = "name"


class Child(NamedTuple):
    """A child run."""

    id: UUID
    graph_id: UUID
    graph_version: int
    status: str
    error: str | None
    stop_reason: str | None
    ended: bool


class OutputLine(NamedTuple):
    """One output of a run: the node that gave it, its name and its value, both as JSON text."""

    node: int
    name: str | None
    value: str


@dataclass(frozen=True, slots=True)
class Taken:
    """How far a reader has read the executions of one node.

    Attributes:
        upto: the executions up to this index were read.
        unfinished: those of them that had failed or were cancelled → how many of their ordinals were taken. They give
            the rest if they run again.
    """

    upto: int = 0
    unfinished: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """Outputs in the order in which they became final, how far they reach in each node, and whether there are more."""

    lines: Sequence[OutputLine]
    taken: Mapping[int, Taken]
    more: bool


class _Closed(NamedTuple):
    """An execution of an output node that will not change unless its run is retried."""

    final_at: datetime  # since when neither it nor an earlier one has been open
    node: int
    idx: int
    first: int  # the first ordinal that was not taken yet
    emitted: int
    completed: bool


def find(session: Session, parent: Parent) -> Child | None:
    """The child run of a node execution."""
    return _child(
        session,
        Run.parent_run_id == parent.run_id,
        Run.parent_node == parent.node,
        Run.parent_idx == parent.idx,
        Run.parent_call == parent.call,
    )


def get(session: Session, run_id: UUID) -> Child | None:
    """The run itself."""
    return _child(session, Run.id == run_id)


def _child(session: Session, *which: ColumnElement[bool]) -> Child | None:
    row = session.execute(
        select(Run.id, Run.graph_id, Run.graph_version, Run.status, Run.error, Run.stop_reason, Run.ended_at).where(
            *which
        )
    ).one_or_none()
    if row is None:
        return None
    return Child(
        row.id, row.graph_id, row.graph_version, row.status, row.error, row.stop_reason, row.ended_at is not None
    )


def outputs(
    session: Session,
    run_id: UUID,
    nodes: Sequence[int],
    taken: Mapping[int, Taken],
    *,
    ended: bool,
    most: int,
    most_bytes: int,
) -> Found:
    """The outputs of the output nodes `nodes` beyond `taken`: of each node in the order of its executions.

    Between nodes they are in the order in which they became final: an execution's outputs do when it and all earlier
    ones of its node have ended. So a node's outputs are taken up to its first open execution, and reading on behind the
    last one taken of each node misses none and repeats none, wherever a page is cut.

    Args:
        ended: the run has ended, so no execution is waited for.
        most, most_bytes: the values of a page at most, and their bytes; those of one execution stay together.
    """
    closed = list(merge(*(_closed(session, run_id, node, taken.get(node, Taken()), ended, most + 1) for node in nodes)))
    fitting = _fitting(session, run_id, closed[:most], most, most_bytes)
    reached = dict(taken)
    for one in fitting:
        before = reached.get(one.node, Taken())
        unfinished = {idx: first for idx, first in before.unfinished.items() if idx != one.idx}
        if not one.completed:
            unfinished[one.idx] = one.emitted
        reached[one.node] = Taken(max(before.upto, one.idx), unfinished)
    return Found(_lines(session, run_id, fitting), reached, len(closed) > len(fitting))


def _closed(session: Session, run_id: UUID, node: int, taken: Taken, ended: bool, limit: int) -> Iterator[_Closed]:
    """The node's executions that are new, or were unfinished and ran again, up to the first open one."""
    of_node = (NodeExecution.run_id == run_id, NodeExecution.node == node)
    columns = select(NodeExecution.idx, NodeExecution.status, NodeExecution.ended_at, NodeExecution.emitted)
    again: Sequence[Row[int, str, datetime | None, int]] = ()
    if taken.unfinished:
        again = session.execute(
            columns.where(*of_node, NodeExecution.idx.in_(taken.unfinished)).order_by(NodeExecution.idx)
        ).all()
    new = session.execute(
        columns.where(*of_node, NodeExecution.idx > taken.upto).order_by(NodeExecution.idx).limit(limit)
    ).all()
    final_at = datetime.min.replace(tzinfo=UTC)
    for row in (*again, *new):
        if row.status not in NODE_TERMINAL and not ended:
            return
        first = taken.unfinished.get(row.idx, 0)
        completed = row.status == NodeStatus.COMPLETED
        if row.idx <= taken.upto and not completed and row.emitted == first:
            continue  # it has not run since
        final_at = max(final_at, row.ended_at or final_at)
        yield _Closed(final_at, node, row.idx, first, row.emitted, completed)


def _fitting(
    session: Session, run_id: UUID, closed: Sequence[_Closed], most: int, most_bytes: int
) -> Sequence[_Closed]:
    """As many of `closed` as fit in a page; at least one."""
    sizes = {
        (row.node, row.idx): (row.values, row.bytes)
        for row in session.execute(
            _of(
                run_id,
                closed,
                Output.node,
                Output.idx,
                func.count().label("values"),
                func.sum(func.octet_length(Output.value)).label("bytes"),
            ).group_by(Output.node, Output.idx)
        )
    }
    values = size = 0
    for number, one in enumerate(closed):
        more = sizes.get((one.node, one.idx), (0, 0))
        values, size = values + more[0], size + more[1]
        if number and (values > most or size > most_bytes):
            return closed[:number]
    return closed


def _lines(session: Session, run_id: UUID, closed: Sequence[_Closed]) -> list[OutputLine]:
    named = aliased(Output)
    query = _of(run_id, closed, Output.node, Output.value, named.value.label("name")).outerjoin(
        named,
        (named.run_id == run_id)
        & (named.node == Output.node)
        & (named.idx == Output.idx)
        & (named.ordinal == Output.ordinal + 1)
        & (named.part == 0)
        & (named.pin == NAME_PIN),
    )
    rows = session.execute(query.order_by(column("place"), Output.ordinal))
    return [OutputLine(row.node, row.name, row.value) for row in rows]


def _of(run_id: UUID, closed: Sequence[_Closed], *columns: Any) -> Select[*tuple[Any, ...]]:
    """These `columns` of the values in `closed`; `place` is the place of their execution among them."""
    asked = (
        func.unnest(
            literal([one.node for one in closed], ARRAY(Integer)),
            literal([one.idx for one in closed], ARRAY(Integer)),
            literal([one.first for one in closed], ARRAY(Integer)),
        )
        .table_valued("node", "idx", "first", with_ordinality="place", name="asked")
        .render_derived()
    )
    return (
        select(*columns)
        .select_from(asked)
        .join(
            Output,
            (Output.run_id == run_id)
            & (Output.node == asked.c.node)
            & (Output.idx == asked.c.idx)
            & (Output.ordinal >= asked.c.first)
            & (Output.part == 0)
            & (Output.pin == OUTPUT_PIN),
        )
    )


def node_outputs(session: Session, run_id: UUID, node: int) -> Sequence[tuple[str, str]]:
    """(pin, value as JSON text) of everything that a node's first execution yielded, in order."""
    rows = session.execute(
        select(Output.pin, Output.value)
        .where(Output.run_id == run_id, Output.node == node, Output.idx == 1, Output.part == 0)
        .order_by(Output.ordinal)
    )
    return [(row.pin, row.value) for row in rows]


def any_refused(session: Session, root_id: UUID) -> bool:
    """Whether moderation refused something in a tree of runs."""
    refused = exists().where(Run.root_id == root_id, Run.reason == FailureReason.MODERATION)
    return bool(session.scalar(select(refused)))
