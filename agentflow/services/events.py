"""Reads the events of a run in order, each once, from wherever a subscriber left off."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow import clock
from agentflow.engine.codec import loads
from agentflow.errors import Malformed
from agentflow.graph.catalogue import BlockKind
from agentflow.graph.plan import Plan, PlanNode
from agentflow.schemas.events import EventOutput, RunEvent
from agentflow.services import secrecy
from agentflow.services.plans import plan_of
from agentflow.services.run_views import find
from agentflow.storage.views import events as stored
from agentflow.storage.views.events import EventValue, Position, Span
from agentflow.storage.views.runs import AnyRow

BATCH: Final = 250
"""Events that are read at once, at most."""

MAX_OUTPUTS: Final = 10
"""Outputs in one event; the others are in the node execution's view."""

PATIENCE_SECONDS: Final = 1.0
"""Events of an open run that are held back for so long, by transactions that need have nothing to do with it, are read
through its gate. Not sooner: that costs round trips, and stops the run's workers for a moment."""

LONGEST: Final = 8 * 1024
"""Bytes of a value in an event; a longer one is left out."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The run whose events are read."""

    run_id: UUID
    plan: Plan


@dataclass(frozen=True, slots=True)
class Batch:
    """Some events, the position after them, and whether the run has ended and there are no more.

    `held_since`: since when (`clock.monotonic`) further ones are held back; None: there are none.
    """

    events: list[RunEvent]
    position: Position
    over: bool
    held_since: float | None = None


def subject(session: Session, owner_id: UUID, run_id: UUID) -> Subject:
    """The run, ready to be watched.

    Raises:
        NotFound: the owner has no such run.
    """
    run = find(session, owner_id, run_id)
    return Subject(run_id, plan_of(session, run.graph_id, run.graph_version))


def position(text: str | None) -> Position:
    """The position of the event with the id `text`; None: before the first.

    Raises:
        Malformed: it is no event's id.
    """
    if not text:
        return Position()
    transaction, _, number = text.partition("-")
    if not (transaction.isdecimal() and number.isdecimal()) or max(len(transaction), len(number)) > 18:
        raise Malformed(f"{text!r} is no id of an event")
    return Position(int(transaction), int(number))


def read(session: Session, subject: Subject, start: Position, held_since: float | None = None) -> Batch:
    """The events after `start`, up to `BATCH` of them. `held_since`: that of the batch before."""
    run_id = subject.run_id
    rows = stored.after(session, run_id, start, BATCH)
    if rows:
        return _batch(session, subject, rows)
    standing = stored.standing(session, run_id, start)
    if not standing.more:
        return Batch([], start, standing.ended)
    held_since = clock.monotonic() if held_since is None else held_since
    if standing.ended or clock.monotonic() - held_since >= PATIENCE_SECONDS:
        rows = stored.after_by_gate(session, run_id, start, BATCH)
    return _batch(session, subject, rows, held_since) if rows else Batch([], start, False, held_since)


def _batch(session: Session, subject: Subject, rows: Sequence[AnyRow], held_since: float | None = None) -> Batch:
    """An event that says "ended" need not be the last: a retried run has events after it."""
    given = _values(session, subject, rows)
    events = [_event(subject.plan, row, given) for row in rows]
    reached = Position(rows[-1].transaction, rows[-1].id)
    over = events[-1].ends_run and stored.standing(session, subject.run_id, reached) == (True, False)
    return Batch(events, reached, over, held_since)


def _values(session: Session, subject: Subject, rows: Sequence[AnyRow]) -> dict[tuple[int, int], list[EventValue]]:
    spans = [
        Span(row.node, row.idx, row.first, row.first + min(row.stored, MAX_OUTPUTS))
        for row in rows
        if row.first is not None and row.stored
    ]
    found: dict[tuple[int, int], list[EventValue]] = {}
    for value in stored.values(session, subject.run_id, spans, LONGEST):
        found.setdefault((value.node, value.idx), []).append(value)
    return found


def _event(plan: Plan, row: AnyRow, given: dict[tuple[int, int], list[EventValue]]) -> RunEvent:
    event = RunEvent(id=f"{row.transaction}-{row.id}", kind=row.kind, at=row.at, status=row.status, reason=row.reason)
    if row.node is None:
        return event
    node = plan.nodes[row.node]
    outputs: list[EventOutput] = []
    if row.first is not None and row.stored:
        end = row.first + row.stored
        outputs = [
            EventOutput.model_validate(_shown(value, node))
            for value in given.get((row.node, row.idx), ())
            if row.first <= value.ordinal < end
        ]
    return event.model_copy(
        update={
            "node_id": node.id,
            "block": node.block_name,
            "title": node.title,
            "index": row.idx,
            "attempt": row.attempt,
            "error": row.error,
            "is_output": node.kind is BlockKind.OUTPUT,
            "outputs": outputs,
            "outputs_truncated": (row.stored or 0) > len(outputs) or any(output.truncated for output in outputs),
        }
    )


def _shown(value: EventValue, node: PlanNode) -> dict[str, Any]:
    if value.text is None and not secrecy.hides_output(node, value.pin):
        return {"pin": value.pin, "truncated": True}
    return {"pin": value.pin, "value": secrecy.hide_output(node, value.pin, loads(value.text or '"-"'))}
