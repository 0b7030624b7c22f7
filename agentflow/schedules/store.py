"""Stores schedules and their occurrences, and finds those to be fired. What is listed is scoped by owner."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import CursorResult, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from agentflow import pages
from agentflow.ids import new_id
from agentflow.schedules.tables import Occurrence, OccurrenceState, Origin, Overlap, Schedule

_BATCH: Final = 50
"""Schedules of one owner that are fired in one transaction: it holds the lock on the places of their runs."""

# After the schedules are locked, so that it sees what whoever fired them before has done.
_STANDING = text(
    "SELECT s.id, agentflow_now() AS now, u.suspended_at IS NOT NULL AS suspended, "
    "EXISTS (SELECT FROM occurrences o WHERE o.schedule_id = s.id AND o.due_at = s.due_at AND o.state <> 'missed') "
    "AS decided, "
    "EXISTS (SELECT FROM runs r WHERE r.schedule_id = s.id AND r.ended_at IS NULL) AS busy "
    "FROM schedules s JOIN users u ON u.id = s.owner_id WHERE s.id = ANY(:ids)"
)
# Of a schedule the first that waits decides: a later one does not overtake it.
_WAITING = text(
    "WITH RECURSIVE waiting AS ("
    "  (SELECT o.schedule_id FROM occurrences o WHERE o.state = 'pending' ORDER BY o.schedule_id LIMIT 1) "
    "  UNION ALL "
    "  SELECT (SELECT o.schedule_id FROM occurrences o WHERE o.state = 'pending' AND o.schedule_id > w.schedule_id "
    "          ORDER BY o.schedule_id LIMIT 1) FROM waiting w WHERE w.schedule_id IS NOT NULL) "
    "SELECT s.id, agentflow_now() AS now FROM waiting w JOIN schedules s ON s.id = w.schedule_id "
    "JOIN users u ON u.id = s.owner_id "
    "CROSS JOIN LATERAL (SELECT o.overlap FROM occurrences o WHERE o.schedule_id = s.id AND o.state = 'pending' "
    "                    ORDER BY o.due_at LIMIT 1) o "
    "WHERE s.paused_at IS NULL AND u.suspended_at IS NULL AND (o.overlap = 'allow' OR NOT EXISTS ("
    "  SELECT FROM runs r WHERE r.schedule_id = s.id AND r.ended_at IS NULL)) "
    "LIMIT 1 FOR UPDATE OF s SKIP LOCKED"
)
_OPEN_RUNS = text("SELECT r.id FROM runs r WHERE r.schedule_id = :schedule AND r.ended_at IS NULL ORDER BY r.id")
_OVERDUE_RUNS = text(
    "SELECT DISTINCT r.owner_id, r.id FROM occurrences o JOIN runs r ON r.schedule_id = o.schedule_id "
    "WHERE o.state = 'pending' AND o.overlap = 'cancel_previous' AND r.ended_at IS NULL AND r.stop_as IS NULL "
    "LIMIT :most"
)


class Due(NamedTuple):
    """A schedule that is locked, to be fired.

    Attributes:
        schedule: the schedule.
        now: by the database's clock.
        suspended: its owner is.
        decided: there is an occurrence of its due time already.
        busy: a run of it is open.
    """

    schedule: Schedule
    now: datetime
    suspended: bool = False
    decided: bool = False
    busy: bool = True


def lock_due(session: Session) -> list[Due]:
    """The schedule that has been due for longest, and some more of its owner, but those that somebody else fires."""
    due = (
        select(Schedule)
        .where(Schedule.fire_at <= func.agentflow_now(), Schedule.paused_at.is_(None))
        .order_by(Schedule.fire_at)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    first = session.scalars(due.limit(1)).all()
    if not first:
        return []
    more = due.where(Schedule.owner_id == first[0].owner_id, Schedule.id != first[0].id).limit(_BATCH - 1)
    locked = {schedule.id: schedule for schedule in (*first, *session.scalars(more))}
    return [Due(locked[id], *standing) for id, *standing in session.execute(_STANDING, {"ids": list(locked)})]


def lock_waiting(session: Session) -> tuple[Schedule, datetime] | None:
    """A schedule whose first waiting occurrence can be run now, and that nobody else fires; None: there is none."""
    row = session.execute(_WAITING).one_or_none()
    return (session.get_one(Schedule, row.id, populate_existing=True), row.now) if row else None


def now(session: Session) -> datetime:
    """The present time, by the database's clock: that of every worker."""
    moment = session.scalar(text("SELECT agentflow_now()"))
    assert isinstance(moment, datetime)
    return moment


def add(session: Session, schedule: Schedule) -> None:
    """Write a new schedule."""
    session.add(schedule)
    session.flush()
    session.refresh(schedule)


def find(session: Session, owner_id: UUID, schedule_id: UUID, *, lock: bool = False) -> Schedule | None:
    """One schedule; `lock`: nobody else changes or fires it until this transaction ends."""
    query = select(Schedule).where(Schedule.id == schedule_id, Schedule.owner_id == owner_id)
    return session.scalar(query.with_for_update() if lock else query)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which schedules to list; None: any."""

    graph_id: UUID | None = None
    paused: bool | None = None


def page(
    session: Session, owner_id: UUID, wanted: Wanted, after: UUID | None, limit: int
) -> tuple[list[Schedule], bool]:
    """The owner's schedules, the newest first, below the id `after`, and whether there are more."""
    query = select(Schedule).where(Schedule.owner_id == owner_id)
    if wanted.graph_id is not None:
        query = query.where(Schedule.graph_id == wanted.graph_id)
    if wanted.paused is not None:
        query = query.where(Schedule.paused_at.is_not(None) if wanted.paused else Schedule.paused_at.is_(None))
    if after is not None:
        query = query.where(Schedule.id < after)
    rows, more = pages.page(session, query.order_by(Schedule.id.desc()), limit, Schedule.given)
    return [schedule for (schedule,) in rows], more


def occurrences(
    session: Session, schedule_id: UUID, state: OccurrenceState | None, after: UUID | None, limit: int
) -> Sequence[Occurrence]:
    """A schedule's occurrences, the last that were written first, below the id `after`; `state`: in this one only."""
    query = select(Occurrence).where(Occurrence.schedule_id == schedule_id)
    if state is not None:
        query = query.where(Occurrence.state == state)
    if after is not None:
        query = query.where(Occurrence.id < after)
    return session.scalars(query.order_by(Occurrence.id.desc()).limit(limit)).all()


def count(session: Session, owner_id: UUID) -> int:
    """How many schedules the owner has. Nobody adds one of theirs until this transaction ends."""
    session.execute(text("SELECT pg_advisory_xact_lock(uuid_hash(:owner), -4)"), {"owner": owner_id})
    found = session.scalar(select(func.count()).select_from(Schedule).where(Schedule.owner_id == owner_id))
    return int(found or 0)


def naming(session: Session, owner_id: UUID, id: UUID, limit: int) -> Sequence[str]:
    """The names of at most `limit` of the owner's schedules that give a run something with this id, newest first."""
    query = select(Schedule.name).where(Schedule.owner_id == owner_id, Schedule.given.icontains(str(id)))
    return session.scalars(query.order_by(Schedule.id.desc()).limit(limit)).all()


def changed(session: Session, schedule: Schedule) -> None:
    """Write what was changed on it by a person."""
    schedule.updated_at = func.now()
    session.flush()
    session.refresh(schedule)


def remove(session: Session, schedule: Schedule) -> None:
    """Delete it, with its occurrences."""
    session.delete(schedule)
    session.flush()


def open_runs(session: Session, schedule_id: UUID) -> Sequence[UUID]:
    """The runs of a schedule that have not ended, the oldest first."""
    return session.scalars(_OPEN_RUNS, {"schedule": schedule_id}).all()


def runs_to_cancel(session: Session, most: int) -> Sequence[tuple[UUID, UUID]]:
    """Open runs that an occurrence waits for which wants them cancelled, and that nobody has stopped: (owner, run)."""
    return [(row.owner_id, row.id) for row in session.execute(_OVERDUE_RUNS, {"most": most})]


def first_waiting(session: Session, schedule_id: UUID, but: Origin | None = None) -> Occurrence | None:
    """The earliest occurrence of a schedule that waits; `but`: of another origin than this."""
    query = select(Occurrence).where(Occurrence.schedule_id == schedule_id, Occurrence.state == OccurrenceState.PENDING)
    if but is not None:
        query = query.where(Occurrence.origin != but)
    return session.scalar(query.order_by(Occurrence.due_at).limit(1))


def find_occurrence(session: Session, schedule_id: UUID, due_at: datetime) -> Occurrence | None:
    """The occurrence of a due time, unless that was missed."""
    query = select(Occurrence).where(
        Occurrence.schedule_id == schedule_id,
        Occurrence.due_at == due_at,
        Occurrence.state != OccurrenceState.MISSED,
    )
    return session.scalar(query)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a due time.

    Attributes:
        state: in a word.
        run_id: the run that was started.
        reason: why there is none, for a person.
        overlap: while it waits: for open runs, unless it allows them.
    """

    state: OccurrenceState
    run_id: UUID | None = None
    reason: str | None = None
    overlap: Overlap | None = None

    @property
    def columns(self) -> dict[str, Any]:
        """It, as an occurrence has it."""
        return {"state": self.state, "run_id": self.run_id, "reason": self.reason, "overlap": self.overlap}


def record(
    session: Session, schedule: Schedule, due_at: datetime, outcome: Outcome, now: datetime, origin: Origin
) -> Occurrence:
    """Write an occurrence."""
    waits = outcome.state is OccurrenceState.PENDING
    made = Occurrence(**_of(schedule, due_at, origin), **outcome.columns, fired_at=None if waits else now)
    session.add(made)
    return made


def record_missed(
    session: Session, schedule: Schedule, since: datetime, through: datetime, count: int | None, now: datetime
) -> None:
    """Write that all times from `since` to `through` were missed; `count` None: they were not counted."""
    missed = {"state": OccurrenceState.MISSED, "through": through, "count": count, "fired_at": now}
    session.add(Occurrence(**_of(schedule, since, Origin.SCHEDULE), **missed))


def record_backfill(session: Session, schedule: Schedule, times: Sequence[datetime], overlap: Overlap) -> int:
    """Write that these times are to be run, but for those that were, or wait already; returns how many."""
    if not times:
        return 0
    rows = [
        {**_of(schedule, at, Origin.BACKFILL), "state": OccurrenceState.PENDING, "overlap": overlap} for at in times
    ]
    again = {"state": OccurrenceState.PENDING, "origin": Origin.BACKFILL, "overlap": overlap}
    done = session.execute(
        insert(Occurrence)
        .values(rows)
        .on_conflict_do_update(
            index_elements=["schedule_id", "due_at"],
            index_where=text("state <> 'missed'"),
            set_={**again, "reason": None, "fired_at": None},
            where=Occurrence.state.in_((OccurrenceState.SKIPPED, OccurrenceState.FAILED)),
        )
    )
    assert isinstance(done, CursorResult)
    return done.rowcount


def settle(session: Session, occurrence: Occurrence, outcome: Outcome, now: datetime) -> None:
    """Write what became of one that waited."""
    for name, value in outcome.columns.items():
        setattr(occurrence, name, value)
    occurrence.fired_at = now
    session.flush()


def give_up_waiting(session: Session, schedule_id: UUID, reason: str, now: datetime) -> int:
    """Skip all occurrences of a schedule that wait; returns how many."""
    done = session.execute(
        update(Occurrence)
        .where(Occurrence.schedule_id == schedule_id, Occurrence.state == OccurrenceState.PENDING)
        .values(state=OccurrenceState.SKIPPED, reason=reason, overlap=None, fired_at=now)
    )
    assert isinstance(done, CursorResult)
    return done.rowcount


def _of(schedule: Schedule, due_at: datetime, origin: Origin) -> dict[str, Any]:
    return {
        "id": new_id(),
        "owner_id": schedule.owner_id,
        "schedule_id": schedule.id,
        "due_at": due_at,
        "origin": origin,
    }
