"""Keeps schedules: what is run, with what, and when. `firing.py` fires them.

A schedule must be able to run as it is when it is saved. If that changes, its occurrences fail and say why.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.accounts import quota, users
from agentflow.errors import BadInput, Conflict, GraphInvalid, Malformed, NotFound, Problem, TooMany
from agentflow.ids import new_id
from agentflow.presets import service as presets
from agentflow.presets.service import Given
from agentflow.schedules import firing, store
from agentflow.schedules.store import Outcome, Wanted
from agentflow.schedules.tables import CatchUp, Occurrence, OccurrenceState, Origin, Overlap, Schedule
from agentflow.schedules.timing import Cron, following, latest
from agentflow.services import cursors, submissions
from agentflow.services.cursors import PageRequest
from agentflow.services.plans import document_of, plan_of
from agentflow.services.submissions import Stored
from agentflow.settings import settings
from agentflow.storage import graphs as stored_graphs

NEXT: Final = 10
"""Times that a view tells ahead."""

MOST_BACKFILLED: Final = 1_000
"""Times that one backfill covers."""

_LONGEST_NAME: Final = 250  # of what a graph recommends, as in a request
_INSTANT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class When:
    """When a schedule is due: one of `cron` (in `time_zone`; None: the owner's), `every` and `at`.

    None of them: as the graph recommends. `start_at` None: now.
    """

    cron: str | None = None
    time_zone: str | None = None
    every: timedelta | None = None
    at: datetime | None = None
    start_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class What:
    """What a schedule runs, and with what. `preset_id` or `graph_id`; `version` None: the latest, or the preset's."""

    graph_id: UUID | None
    preset_id: UUID | None
    version: int | None
    given: Given
    due_input: str | None = None


Warnings = tuple[Problem, ...]
"""What is doubtful about what a schedule gives, such as an input that the graph has not."""


@dataclass(frozen=True, slots=True)
class How:
    """How a schedule is fired: see `Overlap` and `CatchUp`."""

    overlap: Overlap = Overlap.SKIP
    catch_up: CatchUp = CatchUp.LAST
    jitter: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class Draft:
    """A schedule as it is to be."""

    name: str
    what: What
    when: When
    how: How = How()


def create(session: Session, owner_id: UUID, draft: Draft) -> tuple[Schedule, Warnings]:
    """Save a schedule; with it what is doubtful about what it gives.

    Raises:
        NotFound: the owner has no such graph or preset, or the graph no such version.
        GraphInvalid: the graph could not run with what is given; or it is not said when, and the graph recommends
            nothing.
        Malformed: it would never be due.
        TooMany: the owner has as many schedules as they may.
        TooLarge: a value is larger than one may be, or the owner stores as much as they may.
    """
    if store.count(session, owner_id) >= settings().max_schedules:
        raise TooMany(f"one user has at most {settings().max_schedules} schedules")
    schedule = Schedule(id=new_id(), owner_id=owner_id)
    warnings = _apply(session, schedule, draft)
    store.add(session, schedule)
    quota.refuse_beyond(session, owner_id)
    return schedule, warnings


def change(session: Session, schedule: Schedule, draft: Draft) -> Warnings:
    """Make a schedule, which is locked, what `draft` says; returns what is doubtful. It is due first after now.

    Raises:
        NotFound, GraphInvalid, Malformed, TooLarge: as in `create`.
    """
    warnings = _apply(session, schedule, draft)
    store.changed(session, schedule)
    quota.refuse_beyond(session, schedule.owner_id)
    return warnings


def get(session: Session, owner_id: UUID, schedule_id: UUID, *, lock: bool = False) -> Schedule:
    """One schedule; `lock`: nobody else changes or fires it until this transaction ends.

    Raises:
        NotFound: the owner has no such schedule.
    """
    schedule = store.find(session, owner_id, schedule_id, lock=lock)
    if schedule is None:
        raise NotFound(f"there is no schedule {schedule_id}")
    return schedule


def page(session: Session, owner_id: UUID, wanted: Wanted, asked: PageRequest) -> tuple[list[Schedule], str | None]:
    """One page of the owner's schedules, the newest first, and the next page's cursor."""
    of = f"schedules/{wanted.graph_id}/{wanted.paused}"
    found, more = store.page(session, owner_id, wanted, cursors.identifier(of, asked.after), asked.limit)
    return found, cursors.cursor(of, found[-1].id) if more else None


def occurrences(
    session: Session, owner_id: UUID, schedule_id: UUID, state: OccurrenceState | None, asked: PageRequest
) -> tuple[list[Occurrence], str | None]:
    """One page of a schedule's occurrences, the last that were written first, and the next page's cursor.

    Raises:
        NotFound: the owner has no such schedule.
    """
    get(session, owner_id, schedule_id)
    of = f"occurrences/{schedule_id}/{state}"
    found = store.occurrences(session, schedule_id, state, cursors.identifier(of, asked.after), asked.limit + 1)
    return asked.cut(of, found, lambda occurrence: (occurrence.id,))


def next_times(schedule: Schedule, count: int = NEXT) -> Sequence[datetime]:
    """When it is due next, up to `count` times. The first is known; to find others takes time, where they are rare."""
    if schedule.due_at is None or schedule.paused_at is not None:
        return ()
    return (schedule.due_at, *following(schedule.timing, schedule.due_at, count - 1))


def shown(session: Session, schedule: Schedule) -> Given:
    """What a schedule gives, without its secrets."""
    stored = Stored(schedule.graph_id, schedule.version)
    return presets.without_secrets(session, schedule.owner_id, stored, Given.read(schedule.given))


def pause(session: Session, owner_id: UUID, schedule_id: UUID, reason: str) -> Schedule:
    """Pause a schedule: times that come meanwhile are not for it, and nothing that waits begins.

    Raises:
        NotFound: the owner has no such schedule.
    """
    schedule = get(session, owner_id, schedule_id, lock=True)
    if schedule.paused_at is None:
        now = store.now(session)
        _leave_unfired(session, schedule, now, "it was paused before it was fired")
        schedule.paused_at, schedule.pause_reason = now, reason
        store.changed(session, schedule)
    return schedule


def resume(session: Session, owner_id: UUID, schedule_id: UUID) -> Schedule:
    """Let a paused schedule go on with its first time after now.

    Raises:
        NotFound: the owner has no such schedule.
    """
    schedule = get(session, owner_id, schedule_id, lock=True)
    if schedule.paused_at is not None:
        schedule.paused_at = schedule.pause_reason = schedule.late_until = None
        schedule.refusals = 0
        firing.set_due(schedule, store.now(session))
        store.changed(session, schedule)
    return schedule


def delete(session: Session, owner_id: UUID, schedule_id: UUID) -> None:
    """Delete a schedule, with its occurrences; its runs stay.

    Raises:
        NotFound: the owner has no such schedule.
    """
    store.remove(session, get(session, owner_id, schedule_id, lock=True))


def run_now(session: Session, owner_id: UUID, schedule_id: UUID, overlap: Overlap | None) -> Occurrence:
    """Run a schedule beside its times, or let it wait, as `overlap` says (None: as the schedule says).

    Raises:
        NotFound: the owner has no such schedule; or its graph or preset is gone.
        Conflict: a run of it has not ended, and it is to be skipped then.
        GraphInvalid, PaymentRequired, TooLarge: it cannot run.
    """
    schedule = get(session, owner_id, schedule_id, lock=True)
    occurrence = firing.run_now(session, schedule, overlap or Overlap(schedule.overlap))
    if occurrence.state == OccurrenceState.SKIPPED:
        raise Conflict(f"it is not run: {occurrence.reason}. With `overlap`: `allow` it is")
    return occurrence


def backfill(
    session: Session, owner_id: UUID, schedule_id: UUID, since: datetime, until: datetime, overlap: Overlap
) -> tuple[int, int]:
    """Have all times from `since` to `until` run that were not: ALLOW all at once, QUEUE one by one.

    Returns:
        how many will be, and how many were, or wait already.

    Raises:
        NotFound: the owner has no such schedule.
        Malformed: there is no time in the range, or more than `MOST_BACKFILLED`; or it ends after now.
    """
    schedule = get(session, owner_id, schedule_id, lock=True)
    if until > store.now(session):
        raise Malformed("`until` lies in the future: such times are fired when they come")
    times = []
    for at in takewhile(lambda due: due <= until, schedule.timing.after(since - _INSTANT)):
        times.append(at)
        if len(times) > MOST_BACKFILLED:
            raise Malformed(f"there are more than {MOST_BACKFILLED} times from `since` to `until`: take less at once")
    if not times:
        raise Malformed("the schedule has no time from `since` to `until`")
    accepted = store.record_backfill(session, schedule, times, overlap)
    return accepted, len(times) - accepted


def skip_waiting(session: Session, owner_id: UUID, schedule_id: UUID) -> int:
    """Skip all occurrences of a schedule that wait: a backfill, or those for the end of a run; returns how many.

    Raises:
        NotFound: the owner has no such schedule.
    """
    get(session, owner_id, schedule_id, lock=True)
    return store.give_up_waiting(session, schedule_id, "its owner wanted no more to wait", store.now(session))


def _apply(session: Session, schedule: Schedule, draft: Draft) -> Warnings:
    """Write a draft into a schedule, once it is known that it can run; returns what is doubtful."""
    what, when, how = draft.what, draft.when, draft.how
    now = store.now(session)
    schedule.name = draft.name
    schedule.preset_id, schedule.version, schedule.due_input = what.preset_id, what.version, what.due_input
    schedule.given = what.given.text
    graph_id = what.graph_id
    if what.preset_id is not None:
        graph_id = presets.get(session, schedule.owner_id, what.preset_id).graph_id
    assert graph_id is not None
    schedule.graph_id = graph_id
    warnings = _check(session, schedule, now)
    schedule.overlap, schedule.catch_up, schedule.jitter = how.overlap, how.catch_up, how.jitter
    cron = when.cron
    if when.cron is None and when.every is None and when.at is None:
        cron = _recommended(session, schedule, now)
    zone = when.time_zone or users.get(session, schedule.owner_id).time_zone or "UTC"
    timing = (cron, zone, when.every, when.at, when.start_at or now)
    if timing == (schedule.cron, schedule.time_zone, schedule.every, schedule.at, schedule.start_at):
        firing.delay(schedule)
        return warnings
    _leave_unfired(session, schedule, now, "it was changed before it was fired")
    schedule.cron, schedule.time_zone, schedule.every, schedule.at, schedule.start_at = timing
    schedule.late_until = None
    firing.set_due(schedule, now)
    if schedule.due_at is None:
        raise Malformed("it would never be due: all of its times have passed")
    return warnings


def _leave_unfired(session: Session, schedule: Schedule, now: datetime, reason: str) -> None:
    """Record the times that have come and that nobody has fired yet, before they are forgotten."""
    if schedule.due_at is None or schedule.due_at > now or schedule.paused_at is not None:
        return
    outcome = Outcome(OccurrenceState.SKIPPED, reason=reason)
    store.record(session, schedule, schedule.due_at, outcome, now, Origin.SCHEDULE)
    rest = latest(schedule.timing, schedule.due_at, now, firing.MOST_CAUGHT_UP + 1)
    if rest:
        count = len(rest) if len(rest) <= firing.MOST_CAUGHT_UP else None  # else there may be more
        (second,) = following(schedule.timing, schedule.due_at, 1)
        store.record_missed(session, schedule, second, rest[-1], count, now)


def _check(session: Session, schedule: Schedule, now: datetime) -> Warnings:
    """Whether it could run now; returns what is doubtful."""
    stored, wanted = firing.what_to_run(session, schedule, now)
    warnings = submissions.check(session, schedule.owner_id, stored, wanted)
    name = schedule.due_input
    if name is not None and name not in plan_of(session, stored.graph_id, _version(session, schedule, stored)).inputs:
        raise GraphInvalid("it cannot be told when it is due", [Problem(f"the graph has no input {name!r}")])
    return warnings


def _recommended(session: Session, schedule: Schedule, now: datetime) -> str:
    """The cron expression that the graph recommends."""
    stored, _ = firing.what_to_run(session, schedule, now)
    document = document_of(session, stored.graph_id, _version(session, schedule, stored))
    expression = (document.model_extra or {}).get("recommended_schedule_cron")
    if not isinstance(expression, str) or not expression.strip() or len(expression) > _LONGEST_NAME:
        raise GraphInvalid("say when: `cron`, `every` or `at`; the graph recommends nothing")
    try:
        Cron(expression)
    except BadInput as error:
        raise GraphInvalid(f"what the graph recommends cannot be read: {error.message}") from None
    return expression


def _version(session: Session, schedule: Schedule, stored: Stored) -> int:
    if stored.version is not None:
        return stored.version
    head = stored_graphs.find(session, schedule.owner_id, stored.graph_id)
    if head is None:
        raise NotFound(f"there is no graph {stored.graph_id}")
    return head.latest_version
