"""Reads what happened in a run after what a reader has seen.

An event gets its id when it is written and is seen when its transaction commits, so ids become visible out of order. A
reader therefore goes by (transaction, id), up to a place below which every transaction has ended: nothing is missed and
nothing comes twice. There are two ways to find that place:

    after          the oldest transaction that runs on the server: free, but any forgotten transaction holds it back
    after_by_gate  the run's own gate: whoever can take it alone knows that nobody is writing in this run

The second works because whoever writes events of a run takes its gate before writing anything, and so before the
transaction gets its number. (Creating a run needs no gate: nobody can see it before.)
"""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Row,
    and_,
    case,
    func,
    literal,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from agentflow.storage.tables import Event, NodeExecution, Output, Run

AnyRow = Row[*tuple[Any, ...]]

_OLDEST_RUNNING = literal_column("pg_snapshot_xmin(pg_current_snapshot())::text::bigint", BigInteger)
_NOT_BEGUN = literal_column("pg_snapshot_xmax(pg_current_snapshot())::text::bigint", BigInteger)


class Position(NamedTuple):
    """How far a reader has read."""

    transaction: int = 0
    id: int = 0


class Span(NamedTuple):
    """The outputs of a node execution from the ordinal `first` to below `end`."""

    node: int
    idx: int
    first: int
    end: int


class Standing(NamedTuple):
    """Whether the run has ended (or is gone), and whether there are events that a reader has not seen."""

    ended: bool
    more: bool


class EventValue(NamedTuple):
    """One output: its value as JSON text, or None where it is too long for an event."""

    node: int
    idx: int
    ordinal: int
    pin: str
    text: str | None


def after(session: Session, run_id: UUID, position: Position, limit: int) -> Sequence[AnyRow]:
    """The run's next events, with the error message of node executions that failed."""
    return _between(session, run_id, position, _OLDEST_RUNNING, limit)


def after_by_gate(session: Session, run_id: UUID, position: Position, limit: int) -> Sequence[AnyRow]:
    """Like `after`, but no other transaction holds it back. Nothing if somebody is writing in this run now."""
    end = _decided_by_gate(session, run_id)
    return () if end is None else _between(session, run_id, position, literal(end, BigInteger), limit)


def _decided_by_gate(session: Session, run_id: UUID) -> int | None:
    """A transaction below which all that wrote in the run have ended; None if somebody holds the run's gate.

    The number is read before the gate is taken. A writer below it took the gate before that, and has ended because the
    gate is free now; a later one gets a higher number. So the gate is not needed while events are read, and is released
    at once with the savepoint, because workers wait for it.
    """
    alone = func.pg_try_advisory_xact_lock(func.uuid_hash_extended(literal(run_id), 0))
    with session.begin_nested() as savepoint:
        end: int | None = session.scalar(select(case((alone, _NOT_BEGUN))))
        savepoint.rollback()
    return end


def _between(
    session: Session, run_id: UUID, position: Position, end: ColumnElement[int], limit: int
) -> Sequence[AnyRow]:
    page = (
        select(
            Event.transaction,
            Event.id,
            Event.at,
            Event.kind,
            Event.status,
            Event.reason,
            Event.node,
            Event.idx,
            Event.attempt,
            Event.first,
            Event.count.label("stored"),
        )
        .where(Event.run_id == run_id, _later(position), Event.transaction < end)
        .order_by(Event.transaction, Event.id)
        .limit(limit)
        .subquery()  # cut first: else the planner may join all of the run
    )
    failed = and_(
        page.c.status == "FAILED",
        NodeExecution.run_id == run_id,
        NodeExecution.node == page.c.node,
        NodeExecution.idx == page.c.idx,
    )
    return session.execute(
        select(*page.c, NodeExecution.error)
        .join(NodeExecution, failed, isouter=True)
        .order_by(page.c.transaction, page.c.id)
    ).all()


def standing(session: Session, run_id: UUID, position: Position) -> Standing:
    """How the run stands for a reader at `position`, at one moment; counts events that `after` holds back."""
    more = select(Event.id).where(Event.run_id == run_id, _later(position)).exists()
    is_open = select(Run.id).where(Run.id == run_id, Run.ended_at.is_(None)).exists()
    row = session.execute(select(~is_open, more)).one()
    return Standing(*row)


def _later(position: Position) -> ColumnElement[bool]:
    return tuple_(Event.transaction, Event.id) > tuple_(literal(position.transaction), literal(position.id))


def values(session: Session, run_id: UUID, spans: Sequence[Span], longest: int) -> list[EventValue]:
    """The outputs in `spans`, in order; those longer than `longest` bytes without their value."""
    if not spans:
        return []
    asked = (
        func.unnest(
            literal([span.node for span in spans], ARRAY(Integer)),
            literal([span.idx for span in spans], ARRAY(Integer)),
            literal([span.first for span in spans], ARRAY(Integer)),
            literal([span.end for span in spans], ARRAY(Integer)),
        )
        .table_valued("node", "idx", "first", "end", name="asked")
        .render_derived()
    )
    rows = session.execute(
        select(
            Output.node,
            Output.idx,
            Output.ordinal,
            Output.pin,
            case((func.octet_length(Output.value) <= longest, Output.value)),
        )
        .select_from(asked)
        .join(
            Output,
            and_(
                Output.run_id == run_id,
                Output.node == asked.c.node,
                Output.idx == asked.c.idx,
                Output.ordinal >= asked.c.first,
                Output.ordinal < asked.c.end,
                Output.part == 0,
            ),
        )
        .order_by(Output.node, Output.idx, Output.ordinal)
    )
    return [EventValue(*row) for row in rows]
