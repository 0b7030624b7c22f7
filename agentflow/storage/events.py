"""What happened in a run after what a reader has seen?

An event's id is given when it is written, and seen when its transaction commits, so ids become visible out of order.
A reader therefore goes by (transaction, id), and only up to the oldest transaction that still runs: everything
below it is decided, so that nothing is missed and nothing comes twice.
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

from agentflow.storage.tables import Event, NodeExecution, Output

AnyRow = Row[*tuple[Any, ...]]

_DECIDED = literal_column("pg_snapshot_xmin(pg_current_snapshot())::text::bigint", BigInteger)


class Position(NamedTuple):
    """How far a reader has come."""

    transaction: int = 0
    id: int = 0


class Span(NamedTuple):
    """The outputs of a node execution from the ordinal `first` to below `end`."""

    node: int
    idx: int
    first: int
    end: int


class EventValue(NamedTuple):
    """One output: its value as JSON text, or None where it is too long for an event."""

    node: int
    idx: int
    ordinal: int
    pin: str
    text: str | None


def after(session: Session, run_id: UUID, position: Position, limit: int) -> Sequence[AnyRow]:
    """The run's next events, with the error message of node executions that failed."""
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
        .where(Event.run_id == run_id, _later(position), Event.transaction < _DECIDED)
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


def any_after(session: Session, run_id: UUID, position: Position) -> bool:
    """Whether the run has any committed event after `position`, also one that `after` holds back still."""
    found = session.scalar(select(Event.id).where(Event.run_id == run_id, _later(position)).limit(1))
    return found is not None


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
