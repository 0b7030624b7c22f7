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
from datetime import datetime
from functools import cache
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
    Row,
    Select,
    TableValuedAlias,
    Uuid,
    and_,
    bindparam,
    case,
    column,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from agentflow.engine.statuses import RUN_OPEN
from agentflow.storage.tables import Event, NodeExecution, Output, Run

AnyRow = Row[*tuple[Any, ...]]

OLDEST_RUNNING: Final = literal_column("pg_snapshot_xmin(pg_current_snapshot())::text::bigint", BigInteger)
"""The oldest transaction that runs: whatever an older one wrote can be seen."""

_NOT_BEGUN = literal_column("pg_snapshot_xmax(pg_current_snapshot())::text::bigint", BigInteger)


class Position(NamedTuple):
    """How far a reader has read."""

    transaction: int = 0
    id: int = 0


class Place(NamedTuple):
    """How far a reader has read in a run."""

    run_id: UUID
    position: Position


class RunsOf(NamedTuple):
    """The runs of an owner, of one graph or of all (None), child runs among them."""

    owner_id: UUID
    graph_id: UUID | None


class PageOfRuns(NamedTuple):
    """The next events of several runs.

    Attributes:
        rows: each with `run_id`, `graph_id` and `graph_version` of its run. Some may follow that a reader must not take
            yet (not `settled`): one may still appear before them.
        present: the position before whatever could not yet be read.
        now: the time.
    """

    rows: list[AnyRow]
    present: Position
    now: datetime


class Span(NamedTuple):
    """The outputs of a node execution from the ordinal `first` to below `end`."""

    run_id: UUID
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

    run_id: UUID
    node: int
    idx: int
    ordinal: int
    pin: str
    text: str | None


def after(session: Session, places: Sequence[Place], limit: int) -> list[list[AnyRow]]:
    """The next events of runs, up to `limit` for each place, with the error message of node executions that failed."""
    return _between(session, places, None, limit)


def after_by_gate(session: Session, place: Place, limit: int) -> list[AnyRow]:
    """Like `after`, but no other transaction holds it back. Nothing if somebody is writing in this run now."""
    end = _decided_by_gate(session, place.run_id)
    return [] if end is None else _between(session, [place], end, limit)[0]


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


_COLUMNS: Final = (
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


def _between(session: Session, places: Sequence[Place], end: int | None, limit: int) -> list[list[AnyRow]]:
    found: list[list[AnyRow]] = [[] for _ in places]
    for row in session.execute(_pages(by_gate=end is not None), {**_given(places), "end": end, "most": limit}):
        found[row.nth - 1].append(row)
    return found


# Each statement is made once: making one takes as long as PostgreSQL needs for it, and live processes ask often.
@cache
def _pages(*, by_gate: bool) -> Select[*tuple[Any, ...]]:
    end = bindparam("end", type_=BigInteger) if by_gate else OLDEST_RUNNING
    asked = _asked()
    page = (
        select(*_COLUMNS)
        .where(Event.run_id == asked.c.run_id, _later(asked), Event.transaction < end)
        .order_by(Event.transaction, Event.id)
        .limit(bindparam("most", type_=Integer))
        .lateral("page")  # cut first: else the planner may join all of the run
    )
    return (
        select(asked.c.run_id, asked.c.nth, *page.c, NodeExecution.error)
        .select_from(asked.join(page, true()).join(NodeExecution, _failed(asked.c.run_id, page), isouter=True))
        .order_by(asked.c.nth, page.c.transaction, page.c.id)
    )


def after_in_runs(
    session: Session, runs: RunsOf, position: Position, ended_since: datetime | None, limit: int
) -> PageOfRuns:
    """The next events of an owner's runs.

    Args:
        session: the transaction.
        runs: which.
        position: how far a reader has read in all of them.
        ended_since: runs that ended before have no event after `position`; None: any may have. It spares looking into
            all runs that an owner ever had.
        limit: of events.
    """
    statement = _page_of_runs(one_graph=runs.graph_id is not None, some=ended_since is not None)
    given = {"owner": runs.owner_id, "graph": runs.graph_id, "since": ended_since, "most": limit}
    rows = session.execute(statement, {**given, "transaction": position.transaction, "id": position.id}).all()
    return PageOfRuns([row for row in rows if row.id is not None], Position(rows[0].oldest, 0), rows[0].now)


@cache
def _page_of_runs(*, one_graph: bool, some: bool) -> Select[*tuple[Any, ...]]:
    looked_into = select(Run.id, Run.graph_id, Run.graph_version).where(Run.owner_id == bindparam("owner"))
    if one_graph:
        looked_into = looked_into.where(Run.graph_id == bindparam("graph"))
    if some:
        looked_into = looked_into.where(or_(Run.status.in_(sorted(RUN_OPEN)), Run.ended_at >= bindparam("since")))
    run = looked_into.cte("looked_into")
    position = tuple_(bindparam("transaction", type_=BigInteger), bindparam("id", type_=BigInteger))
    most = bindparam("most", type_=Integer)
    of_run = (
        select(*_COLUMNS)
        .where(Event.run_id == run.c.id, tuple_(Event.transaction, Event.id) > position)
        .order_by(Event.transaction, Event.id)
        .limit(most)
        .lateral("of_run")
    )
    page = (
        select(run.c.id.label("run_id"), run.c.graph_id, run.c.graph_version, *of_run.c)
        .select_from(run.join(of_run, true()))
        .order_by(of_run.c.transaction, of_run.c.id)
        .limit(most)
        .subquery("page")
    )
    seen = _present().subquery("seen")  # one row, also where there is no event
    return (
        select(*seen.c, *page.c, NodeExecution.error, (page.c.transaction < seen.c.oldest).label("settled"))
        .select_from(
            seen.join(page, true(), isouter=True).join(NodeExecution, _failed(page.c.run_id, page), isouter=True)
        )
        .order_by(page.c.transaction, page.c.id)
    )


def present(session: Session) -> tuple[Position, datetime]:
    """The position before whatever is not yet there to be read, and the time."""
    oldest, now = session.execute(_present()).one()
    return Position(oldest, 0), now


@cache
def _present() -> Select[*tuple[Any, ...]]:
    return select(OLDEST_RUNNING.label("oldest"), func.agentflow_now().label("now"))


def standing(session: Session, places: Sequence[Place]) -> list[Standing]:
    """How runs stand for readers at these places, at one moment; counts events that `after` holds back."""
    if not places:
        return []
    return [Standing(*row) for row in session.execute(_standings(), _given(places))]


@cache
def _standings() -> Select[*tuple[Any, ...]]:
    asked = _asked()
    more = select(Event.id).where(Event.run_id == asked.c.run_id, _later(asked)).exists()
    is_open = select(Run.id).where(Run.id == asked.c.run_id, Run.ended_at.is_(None)).exists()
    return select(~is_open, more).select_from(asked).order_by(asked.c.nth)


def _asked() -> TableValuedAlias:
    columns = (
        bindparam("runs", type_=ARRAY(Uuid)),
        bindparam("transactions", type_=ARRAY(BigInteger)),
        bindparam("ids", type_=ARRAY(BigInteger)),
    )
    return (
        func.unnest(*columns)
        .table_valued(
            column("run_id", Uuid),
            column("transaction", BigInteger),
            column("id", BigInteger),
            with_ordinality="nth",
            name="asked",
        )
        .render_derived()
    )


def _given(places: Sequence[Place]) -> dict[str, Any]:
    """The values that `_asked` takes."""
    return {
        "runs": [place.run_id for place in places],
        "transactions": [place.position.transaction for place in places],
        "ids": [place.position.id for place in places],
    }


def _failed(run_id: ColumnElement[UUID], page: FromClause) -> ColumnElement[bool]:
    return and_(
        page.c.status == "FAILED",
        NodeExecution.run_id == run_id,
        NodeExecution.node == page.c.node,
        NodeExecution.idx == page.c.idx,
    )


def _later(asked: TableValuedAlias) -> ColumnElement[bool]:
    return tuple_(Event.transaction, Event.id) > tuple_(asked.c.transaction, asked.c.id)


def values(session: Session, spans: Sequence[Span], longest: int) -> list[EventValue]:
    """The outputs in `spans`, in order; those longer than `longest` bytes without their value."""
    if not spans:
        return []
    names = ("run_id", "node", "idx", "first", "end")
    given = {f"asked_{name}": [getattr(span, name) for span in spans] for name in names}
    rows = session.execute(_values(), {**given, "longest": longest})
    return [EventValue(*row) for row in rows]


@cache
def _values() -> Select[*tuple[Any, ...]]:
    asked = (
        func.unnest(
            bindparam("asked_run_id", type_=ARRAY(Uuid)),
            bindparam("asked_node", type_=ARRAY(Integer)),
            bindparam("asked_idx", type_=ARRAY(Integer)),
            bindparam("asked_first", type_=ARRAY(Integer)),
            bindparam("asked_end", type_=ARRAY(Integer)),
        )
        .table_valued("run_id", "node", "idx", "first", "end", name="asked")
        .render_derived()
    )
    return (
        select(
            Output.run_id,
            Output.node,
            Output.idx,
            Output.ordinal,
            Output.pin,
            case((func.octet_length(Output.value) <= bindparam("longest", type_=Integer), Output.value)),
        )
        .select_from(asked)
        .join(
            Output,
            and_(
                Output.run_id == asked.c.run_id,
                Output.node == asked.c.node,
                Output.idx == asked.c.idx,
                Output.ordinal >= asked.c.first,
                Output.ordinal < asked.c.end,
                Output.part == 0,
            ),
        )
        .order_by(Output.run_id, Output.node, Output.idx, Output.ordinal)
    )
