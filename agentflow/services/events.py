"""Reads events in order, each once, from wherever a subscriber left off: those of a run, or of all runs of an owner.

Many runs are read in one round trip, so that a process with thousands of subscribers asks seldom.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow import clock
from agentflow.engine.codec import loads
from agentflow.engine.statuses import RUN_TERMINAL
from agentflow.errors import Malformed
from agentflow.graph.catalogue import BlockKind
from agentflow.graph.plan import Plan, PlanNode
from agentflow.schemas.events import RunEvent
from agentflow.schemas.live import WatchedEvent
from agentflow.services import secrecy
from agentflow.services.plans import plan_of
from agentflow.services.run_views import find
from agentflow.storage.views import events as stored
from agentflow.storage.views import runs as run_views
from agentflow.storage.views.events import EventValue, Place, Position, RunsOf, Span, Standing
from agentflow.storage.views.runs import AnyRow

logger = logging.getLogger(__name__)

_Key = tuple[UUID, int, int]  # run, node, index
_Event = TypeVar("_Event", bound=RunEvent)

BATCH: Final = 250
"""Events that are read at once, at most."""

LEAST_EACH: Final = 5
"""Events that each of many readers gets at once, at least."""

MAX_OUTPUTS: Final = 10
"""Outputs in one event; the others are in the node execution's view."""

PATIENCE_SECONDS: Final = 1.0
"""Events of an open run that are held back for so long, by transactions that need have nothing to do with it, are read
through its gate. Not sooner: that costs round trips, and stops the run's workers for a moment."""

LONGEST: Final = 8 * 1024
"""Bytes of a value in an event; a longer one is left out."""


SLACK: Final = timedelta(seconds=20)
"""How much earlier than an event that follows it another may be dated: a transaction waits for locks, 5 s at most, and
clocks are set."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The run whose events are read."""

    run_id: UUID
    plan: Plan


@dataclass(frozen=True, slots=True)
class Ask:
    """The events of a run that are asked for: those after `start`. `held_since`: that of the batch before."""

    subject: Subject
    start: Position
    held_since: float | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Some events, the position after them, and whether the run has ended and there are no more.

    `held_since`: since when (`clock.monotonic`) further ones are held back; None: there are none.
    `full`: it has as many as it may, so there may be more at once.
    """

    events: list[RunEvent]
    position: Position
    over: bool
    held_since: float | None = None
    full: bool = False


@dataclass(frozen=True, slots=True)
class BatchOfRuns:
    """Some events of an owner's runs, and the position after them.

    Attributes:
        full: there may be more at once.
        held: there are more, held back by transactions that run.
        present: the position before whatever could not be read yet.
        now: the time of that.
    """

    events: list[WatchedEvent]
    position: Position
    full: bool
    held: bool
    present: Position
    now: datetime


def subject(session: Session, owner_id: UUID, run_id: UUID) -> Subject:
    """The run, ready to be watched.

    Raises:
        NotFound: the owner has no such run.
    """
    run = find(session, owner_id, run_id)
    return Subject(run_id, plan_of(session, run.graph_id, run.graph_version))


def scope_of(session: Session, run_id: UUID) -> tuple[UUID, ...]:
    """The owner and the graph of a run; empty: there is no such run."""
    run = run_views.find_any(session, run_id)
    return () if run is None else (run.owner_id, run.graph_id)


def warm_up(session: Session) -> None:
    """Have the statements made that read events, which takes longer than reading some."""
    nowhere = UUID(int=0)
    stored.after(session, [Place(nowhere, Position())], BATCH)
    stored.standing(session, [Place(nowhere, Position())])
    stored.values(session, [Span(nowhere, 0, 0, 0, 0)], LONGEST)
    stored.after_in_runs(session, RunsOf(nowhere, None), Position(), None, BATCH)


def position(text: str | None) -> Position:
    """The position of the event with the id `text`; None: before the first.

    Raises:
        Malformed: it is no event's id.
    """
    if not text:
        return Position()
    transaction, _, number = text.partition("-")
    if (
        not (text.isascii() and transaction.isdecimal() and number.isdecimal())
        or max(len(transaction), len(number)) > 18
    ):
        raise Malformed(f"{text!r} is no id of an event")
    return Position(int(transaction), int(number))


def read(session: Session, subject: Subject, start: Position, held_since: float | None = None) -> Batch:
    """The events after `start`, up to `BATCH` of them. `held_since`: that of the batch before."""
    return read_many(session, [Ask(subject, start, held_since)])[0]


def read_many(session: Session, asks: Sequence[Ask]) -> list[Batch]:
    """What each asks for, in their order. Together they get about `BATCH` events, and each some."""
    if not asks:
        return []
    limit = max(BATCH // len(asks), LEAST_EACH)
    places = [Place(ask.subject.run_id, ask.start) for ask in asks]
    found = stored.after(session, places, limit)
    rest = [number for number, rows in enumerate(found) if not rows]
    standings = dict(zip(rest, stored.standing(session, [places[number] for number in rest]), strict=True))
    held: dict[int, float] = {}
    for number, standing in standings.items():
        if standing.more:
            since = asks[number].held_since
            held[number] = since = clock.monotonic() if since is None else since
            if standing.ended or clock.monotonic() - since >= PATIENCE_SECONDS:
                found[number] = stored.after_by_gate(session, places[number], limit)
    outputs = _outputs(session, [row for rows in found for row in rows])
    over = _over(session, places, found)
    return [
        Batch(
            [_told(RunEvent, asks[number].subject.plan, row, outputs) for row in rows],
            _reached(rows[-1]) if rows else asks[number].start,
            number in over if rows else standings[number] == (True, False),
            held.get(number),
            len(rows) == limit,
        )
        for number, rows in enumerate(found)
    ]


def _over(session: Session, places: Sequence[Place], found: Sequence[Sequence[AnyRow]]) -> set[int]:
    """Which have ended with the last of these events. One that says "ended" need not be the last: a retried run has
    events after it."""
    ending = [n for n, rows in enumerate(found) if rows and rows[-1].kind == "run" and rows[-1].status in RUN_TERMINAL]
    reached = [Place(places[number].run_id, _reached(found[number][-1])) for number in ending]
    standings = stored.standing(session, reached)
    return {number for number, standing in zip(ending, standings, strict=True) if standing == (True, False)}


def read_runs(session: Session, runs: RunsOf, start: Position, since: datetime | None) -> BatchOfRuns:
    """The events of an owner's runs after `start`, up to `BATCH` of them, in the order of their positions.

    Args:
        session: the transaction.
        runs: which.
        start: how far the reader has read.
        since: when the event at `start` was; None: unknown, and all runs that the owner ever had are looked into.
    """
    page = stored.after_in_runs(session, runs, start, None if since is None else since - SLACK, BATCH)
    rows = [row for row in page.rows if row.settled]
    plans: dict[UUID, Plan] = {}
    for row in rows:
        if row.run_id not in plans:
            plans[row.run_id] = plan_of(session, row.graph_id, row.graph_version)
    outputs = _outputs(session, rows)
    events = [
        _told(WatchedEvent, plans[row.run_id], row, outputs, run_id=row.run_id, graph_id=row.graph_id) for row in rows
    ]
    position = _reached(rows[-1]) if rows else start
    return BatchOfRuns(
        events, position, len(rows) == BATCH, held=len(rows) < len(page.rows), present=page.present, now=page.now
    )


def standings(session: Session, asks: Sequence[Ask]) -> list[Standing]:
    """Whether each run has ended, and whether it has events after `start`; cheaper than `read_many`."""
    return stored.standing(session, [Place(ask.subject.run_id, ask.start) for ask in asks])


def _reached(row: AnyRow) -> Position:
    return Position(row.transaction, row.id)


def _outputs(session: Session, rows: Sequence[AnyRow]) -> dict[_Key, list[EventValue]]:
    """Node execution → its outputs that are told in the events that `rows` stand for."""
    spans = [
        Span(row.run_id, row.node, row.idx, row.first, row.first + min(row.stored, MAX_OUTPUTS))
        for row in rows
        if row.first is not None and row.stored
    ]
    found: dict[_Key, list[EventValue]] = {}
    for value in stored.values(session, spans, LONGEST):
        found.setdefault((value.run_id, value.node, value.idx), []).append(value)
    return found


def _told(
    model: type[_Event], plan: Plan, row: AnyRow, outputs: Mapping[_Key, Sequence[EventValue]], **more: Any
) -> _Event:
    """The event that `row` stands for; without its outputs where they cannot be shown: others come behind it."""
    try:
        return model(**_fields(plan, row, outputs), **more)
    except Exception:
        logger.exception("event_not_shown", extra={"event": f"{row.transaction}-{row.id}", "run": str(row.run_id)})
        return model(**_fields(plan, row, {}), **more)


def _fields(plan: Plan, row: AnyRow, outputs: Mapping[_Key, Sequence[EventValue]]) -> dict[str, Any]:
    """The fields of the event that `row` stands for. Live processes make thousands a second."""
    fields: dict[str, Any] = {
        "id": f"{row.transaction}-{row.id}",
        "kind": row.kind,
        "at": row.at,
        "status": row.status,
        "reason": row.reason,
    }
    if row.node is None:
        return fields
    node = plan.nodes[row.node]
    shown: list[dict[str, Any]] = []
    if row.first is not None and row.stored:
        end = row.first + row.stored
        shown = [
            _shown(value, node)
            for value in outputs.get((row.run_id, row.node, row.idx), ())
            if row.first <= value.ordinal < end
        ]
    return fields | {
        "node_id": node.id,
        "block": node.block_name,
        "title": node.title,
        "index": row.idx,
        "attempt": row.attempt,
        "error": row.error,
        "is_output": node.kind is BlockKind.OUTPUT,
        "outputs": shown,
        "outputs_truncated": (row.stored or 0) > len(shown) or any("truncated" in output for output in shown),
    }


def _shown(value: EventValue, node: PlanNode) -> dict[str, Any]:
    if value.text is None and not secrecy.hides_output(node, value.pin):
        return {"pin": value.pin, "truncated": True}
    return {"pin": value.pin, "value": secrecy.hide_output(node, value.pin, loads(value.text or '"-"'))}
