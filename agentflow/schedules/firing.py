"""Fires schedules: starts the run of a due time, or records why there is none.

Any worker may fire any schedule. Its row is locked meanwhile, and the occurrence is written in the transaction that
starts the run: so each due time is decided once, by whoever comes first, and a crash leaves nothing behind.

    lock_due → what was missed while nobody fired → the due time itself → when it is due next
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.clock import monotonic
from agentflow.engine.codec import storable_text
from agentflow.errors import AgentFlowError, AtLimit, ClientError, Unavailable
from agentflow.logs import log_outage
from agentflow.notifications import service as notifications
from agentflow.notifications.kinds import Kind
from agentflow.presets import service as presets
from agentflow.presets.service import Given
from agentflow.schedules import store
from agentflow.schedules.store import Due, Outcome
from agentflow.schedules.tables import CatchUp, Occurrence, OccurrenceState, Origin, Overlap, Schedule
from agentflow.schedules.timing import following, latest
from agentflow.services import submissions
from agentflow.services.cancellation import STATEMENT_SECONDS, cancel
from agentflow.services.submissions import Stored, Wanted
from agentflow.services.transaction import after_commit, transaction

logger = logging.getLogger(__name__)

GRACE: Final = timedelta(minutes=1)
"""What is fired so late still counts as in time, however busy the workers are."""

MOST_CAUGHT_UP: Final = 1_000
"""Times that are fired after an outage, at most, where all are wanted."""

MOST_REFUSED: Final = 5
"""Occurrences in a row that cannot be run, after which a schedule pauses itself."""

_PUT_OFF: Final = timedelta(minutes=1)
"""Until a schedule is fired again at which the engine failed."""

_WAITS: Final = frozenset({Overlap.QUEUE, Overlap.CANCEL_PREVIOUS})


def fire(seconds: float) -> int:
    """Fire what is due, and what waited and can run now, for `seconds` at most; returns how many were decided about.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    fired, until = 0, monotonic() + seconds
    for act in (fire_due, fire_waiting):
        while monotonic() < until:
            try:
                with transaction() as session:
                    count = act(session)
            except NotFired as error:
                logger.exception("schedule_not_fired", extra={"schedule": str(error.schedule_id)})
                with transaction() as session:
                    put_off(session, error.schedule_id)
                continue
            if not count:
                break
            fired += count
    return fired


class NotFired(Exception):
    """The engine failed at a schedule, which must not keep the others waiting."""

    def __init__(self, schedule_id: UUID) -> None:
        super().__init__(f"schedule {schedule_id} was not fired")
        self.schedule_id = schedule_id


def fire_due(session: Session) -> int:
    """Decide about the due time that has waited for longest, and others of its owner; returns how many.

    Raises:
        NotFired: the engine failed at one of them.
    """
    found = store.lock_due(session)
    for due in found:
        try:
            with session.no_autoflush:  # all are written at once
                _fire(session, due)
        except Unavailable:
            raise
        except Exception as error:
            raise NotFired(due.schedule.id) from error
    return len(found)


def fire_waiting(session: Session) -> int:
    """Run the next occurrence that waited, for the end of a run or in a backfill; returns how many: 1 or 0.

    Raises:
        NotFired: the engine failed at it.
    """
    found = store.lock_waiting(session)
    if found is None:
        return 0
    schedule, now = found
    waiting = store.first_waiting(session, schedule.id)
    # Another worker may have run it since.
    if waiting is None or (waiting.overlap != Overlap.ALLOW and store.open_runs(session, schedule.id)):
        return 0
    try:
        store.settle(session, waiting, start(session, schedule, waiting.due_at, now), now)
    except Unavailable:
        raise
    except Exception as error:
        raise NotFired(schedule.id) from error
    return 1


def put_off(session: Session, schedule_id: UUID) -> None:
    """Leave a schedule alone for a while at which the engine failed. What waits of it is given up."""
    now = store.now(session)
    schedule = session.get(Schedule, schedule_id, with_for_update=True)
    if schedule is not None:
        if schedule.fire_at is not None:
            schedule.fire_at = now + _PUT_OFF
        waiting = store.first_waiting(session, schedule_id)
        if waiting is not None:
            store.settle(session, waiting, Outcome(OccurrenceState.FAILED, reason="the engine failed at it"), now)


def run_now(session: Session, schedule: Schedule, overlap: Overlap) -> Occurrence:
    """Run a schedule, which is locked, beside its times; `overlap` as for a due time.

    Returns:
        its occurrence: run, waiting, skipped or failed.
    """
    now = store.now(session)
    while store.find_occurrence(session, schedule.id, now) is not None:
        now += timedelta(microseconds=1)
    busy = bool(store.open_runs(session, schedule.id))
    outcome = _decide(session, Due(schedule, now, busy=busy), now, overlap)
    occurrence = store.record(session, schedule, now, outcome, now, Origin.RUN_NOW)
    session.flush()
    return occurrence


def set_due(schedule: Schedule, after: datetime) -> None:
    """Note when a schedule is due next: after `after`, and not before it starts."""
    start = schedule.start_at - timedelta(microseconds=1)
    _set_due(schedule, next(iter(following(schedule.timing, max(after, start), 1)), None))


def _set_due(schedule: Schedule, due_at: datetime | None) -> None:
    schedule.due_at = due_at
    delay(schedule)


def delay(schedule: Schedule) -> None:
    """Note when a schedule is fired: later than it is due by a part of its jitter, the same whoever works it out."""
    due_at, schedule.fire_at = schedule.due_at, None
    if due_at is not None:
        part = Random(f"{schedule.id} {due_at.timestamp()}").random()  # noqa: S311
        schedule.fire_at = due_at + schedule.jitter * part


def _fire(session: Session, due: Due) -> None:
    schedule, now, due_at = due.schedule, due.now, due.schedule.due_at
    _leave_what_was_missed(session, schedule, now)
    if schedule.due_at is None or schedule.fire_at is None or schedule.fire_at > now:
        return
    if not due.decided or schedule.due_at != due_at:
        outcome = _decide(session, due, schedule.due_at, Overlap(schedule.overlap))
        store.record(session, schedule, schedule.due_at, outcome, now, Origin.SCHEDULE)
    set_due(schedule, schedule.due_at)


def _leave_what_was_missed(session: Session, schedule: Schedule, now: datetime) -> None:
    """Record as missed what nobody fired in time, as far as it is not to be caught up; the rest is due then."""
    due_at = schedule.due_at
    assert due_at is not None
    in_time = now - GRACE - schedule.jitter
    if due_at >= in_time or (schedule.late_until is not None and due_at <= schedule.late_until):
        return
    timing = schedule.timing
    late = [due_at, *latest(timing, due_at, in_time, MOST_CAUGHT_UP + 1)]
    counted = len(late) <= MOST_CAUGHT_UP + 1  # else there may be more between the first and the others
    newer = next(iter(following(timing, in_time, 1)), None)
    caught_up: Sequence[datetime] = ()
    if schedule.catch_up == CatchUp.ALL:
        caught_up = late[-MOST_CAUGHT_UP:]
    elif schedule.catch_up == CatchUp.LAST and (newer is None or newer > now):
        caught_up = late[-1:]
    missed = late[: len(late) - len(caught_up)]
    if missed:
        count = len(missed) if counted else None
        store.record_missed(session, schedule, due_at, missed[-1], count, now)
    schedule.late_until = in_time
    _set_due(schedule, caught_up[0] if caught_up else newer)


def _decide(session: Session, due: Due, at: datetime, overlap: Overlap) -> Outcome:
    """What becomes of a due time: by its owner, by what is open of the schedule, and by whether it can run."""
    schedule, now = due.schedule, due.now
    if due.suspended:
        return Outcome(OccurrenceState.SKIPPED, reason="its owner is suspended")
    waiting = store.first_waiting(session, schedule.id, but=Origin.BACKFILL) if overlap in _WAITS else None
    if waiting is not None:
        if overlap is Overlap.QUEUE:
            return Outcome(OccurrenceState.SKIPPED, reason=f"the one of {waiting.due_at.isoformat()} still waited")
        store.settle(session, waiting, Outcome(OccurrenceState.SKIPPED, reason="a later one took its place"), now)
    # Asked again, also of a busy one: its last run may have ended since.
    open_runs = () if overlap is Overlap.ALLOW or not due.busy else store.open_runs(session, schedule.id)
    if not open_runs:
        return start(session, schedule, at, now)
    if overlap is Overlap.SKIP:
        return Outcome(OccurrenceState.SKIPPED, reason=f"the run {open_runs[0]} had not ended")
    if overlap is Overlap.CANCEL_PREVIOUS:
        after_commit(session, lambda: cancel_previous([(schedule.owner_id, run_id) for run_id in open_runs]))
    return Outcome(OccurrenceState.PENDING, overlap=overlap)


def start(session: Session, schedule: Schedule, at: datetime, now: datetime) -> Outcome:
    """Start the run of a due time. If it cannot be, the schedule pauses after a while."""
    owner_id = schedule.owner_id
    try:  # all checks come before the first write, so there is nothing to undo
        stored, wanted = what_to_run(session, schedule, at)
        accepted = submissions.submit(session, owner_id, stored, wanted, schedule_id=schedule.id)
    except AtLimit as error:
        return Outcome(OccurrenceState.SKIPPED, reason=error.message)
    except ClientError as error:
        reason = storable_text(error.in_a_line)
        schedule.refusals += 1
        if schedule.refusals >= MOST_REFUSED and schedule.paused_at is None:
            schedule.paused_at = now
            schedule.pause_reason = f"it could not be run {schedule.refusals} times in a row; lastly: {reason}"
            fields = {"schedule": str(schedule.id), "owner": str(owner_id), "reason": reason}
            about = {**fields, "name": schedule.name, "reason": schedule.pause_reason}
            cause = f"schedule-paused:{schedule.id}:{now.isoformat()}"
            notifications.note(session, owner_id, Kind.SCHEDULE_PAUSED, cause, about)
            after_commit(session, lambda: logger.warning("schedule_paused_itself", extra=fields))
        return Outcome(OccurrenceState.FAILED, reason=reason)
    schedule.refusals = 0
    return Outcome(OccurrenceState.RUN, run_id=accepted.run_id)


def what_to_run(session: Session, schedule: Schedule, at: datetime) -> tuple[Stored, Wanted]:
    """What a schedule runs at `at`, and with what: what it gives, laid over what its preset gives.

    Raises:
        NotFound: its preset is gone.
    """
    wanted, version = Given.read(schedule.given).under(Wanted()), schedule.version
    if schedule.preset_id is not None:
        preset = presets.get(session, schedule.owner_id, schedule.preset_id)
        wanted, version = Given.read(preset.given).under(wanted), version or preset.version
    if schedule.due_input is not None:
        due = at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        wanted = replace(wanted, inputs={**wanted.inputs, schedule.due_input: due})
    return Stored(schedule.graph_id, version), wanted


def cancel_previous(open_runs: Sequence[tuple[UUID, UUID]]) -> None:
    """Cancel runs (owner, run) for which a later one waits. What is left here, the workers' upkeep does."""
    for owner_id, run_id in open_runs:
        try:
            with transaction(STATEMENT_SECONDS) as session:
                cancel(session, owner_id, run_id, "its schedule was due again")
        except ClientError:  # it has ended, or was deleted
            continue
        except AgentFlowError as error:
            log_outage(logger, "previous_run_not_cancelled", error)
