"""Schedules, and the times at which they were due."""

from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from agentflow.schedules.timing import Cron, Interval, Once, Timing
from agentflow.table import Table, one_of


class Overlap(StrEnum):
    """What is done when a schedule is due while a run of it is open."""

    ALLOW = "allow"  # another run is started
    SKIP = "skip"  # none is started
    QUEUE = "queue"  # another is started when that has ended; one waits at most
    CANCEL_PREVIOUS = "cancel_previous"  # that is cancelled, and another started when it has ended


class CatchUp(StrEnum):
    """What is done about times that nobody fired while no worker ran."""

    LAST = "last"  # the last of them is fired
    ALL = "all"  # the last thousand of them are fired
    NONE = "none"  # none of them is fired


class OccurrenceState(StrEnum):
    """What became of a due time."""

    PENDING = "pending"  # it waits, for the end of a run or for its turn in a backfill
    RUN = "run"
    SKIPPED = "skipped"
    MISSED = "missed"
    FAILED = "failed"  # no run could be started


class Origin(StrEnum):
    """Why there is an occurrence."""

    SCHEDULE = "schedule"
    RUN_NOW = "run_now"
    BACKFILL = "backfill"


class Schedule(Table):
    """When a graph is to be run, and with what.

    `fire_at` is `due_at` and the jitter; both are null once no time is left. A paused schedule keeps them.
    """

    __tablename__ = "schedules"
    __table_args__ = (
        CheckConstraint("num_nonnulls(cron, every, at) = 1", name="one_timing"),
        CheckConstraint("(due_at IS NULL) = (fire_at IS NULL)", name="due_is_fired"),
        CheckConstraint("(paused_at IS NULL) = (pause_reason IS NULL)", name="paused_for_a_reason"),
        CheckConstraint(one_of("overlap", Overlap), name="overlap_known"),
        CheckConstraint(one_of("catch_up", CatchUp), name="catch_up_known"),
        Index("schedules_owner_idx", "owner_id", text("id DESC")),
        Index("schedules_fire_idx", "fire_at", postgresql_where=text("fire_at IS NOT NULL AND paused_at IS NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str]
    graph_id: Mapped[UUID] = mapped_column(ForeignKey("graphs.id", ondelete="CASCADE"), index=True)
    version: Mapped[int | None]  # of the graph; null: the latest, or the preset's
    preset_id: Mapped[UUID | None]  # without a foreign key: a schedule whose preset is gone fails and says why
    given: Mapped[str]  # JSON text, as a preset's: {inputs, masks, labels, priority, credentials}
    due_input: Mapped[str | None]  # the input that is given the due time
    cron: Mapped[str | None]  # five fields or an alias, …
    time_zone: Mapped[str]  # … in this zone
    every: Mapped[timedelta | None]  # from start_at on
    at: Mapped[datetime | None]  # once
    start_at: Mapped[datetime]  # nothing is due before
    overlap: Mapped[str]  # Overlap
    catch_up: Mapped[str]  # CatchUp
    jitter: Mapped[timedelta] = mapped_column(server_default=text("'0'"))  # each time is fired up to so much later
    due_at: Mapped[datetime | None]
    fire_at: Mapped[datetime | None]
    late_until: Mapped[datetime | None]  # times up to this one are fired however late, as was decided by `catch_up`
    refusals: Mapped[int] = mapped_column(server_default="0")  # occurrences in a row that could not be run
    paused_at: Mapped[datetime | None]
    pause_reason: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())

    @property
    def timing(self) -> Timing:
        """When it is due.

        Raises:
            BadInput: that cannot be read any more: a time zone was removed.
        """
        if self.cron is not None:
            return Cron(self.cron, self.time_zone)
        if self.every is not None:
            return Interval(self.every, self.start_at)
        assert self.at is not None
        return Once(self.at)


class Occurrence(Table):
    """A time at which a schedule was due, and what became of it. Written in the transaction that starts its run.

    What was missed in a row is one occurrence: from `due_at` to `through`.
    """

    __tablename__ = "occurrences"
    __table_args__ = (
        CheckConstraint(one_of("state", OccurrenceState), name="state_known"),
        CheckConstraint(one_of("origin", Origin), name="origin_known"),
        CheckConstraint("(state = 'run') = (run_id IS NOT NULL)", name="run_has_run"),
        CheckConstraint("(state = 'missed') = (through IS NOT NULL)", name="missed_has_end"),
        # Of each due time one only, whoever fires it.
        Index("occurrences_due_key", "schedule_id", "due_at", unique=True, postgresql_where=text("state <> 'missed'")),
        Index("occurrences_schedule_idx", "schedule_id", text("id DESC")),
        Index("occurrences_owner_idx", "owner_id"),
        Index("occurrences_pending_idx", "schedule_id", "due_at", postgresql_where=text("state = 'pending'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    schedule_id: Mapped[UUID] = mapped_column(ForeignKey("schedules.id", ondelete="CASCADE"))
    due_at: Mapped[datetime]
    through: Mapped[datetime | None]
    count: Mapped[int | None]  # how many were missed; null: more than were counted
    origin: Mapped[str]  # Origin
    state: Mapped[str]  # OccurrenceState
    overlap: Mapped[str | None]  # while it waits: Overlap.ALLOW, or else it waits for open runs
    run_id: Mapped[UUID | None]
    reason: Mapped[str | None]  # why it was skipped or failed, for a person
    fired_at: Mapped[datetime | None]  # when that was decided
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
