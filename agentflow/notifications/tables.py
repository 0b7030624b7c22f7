"""The outbox of notifications, the channels of users, what is to be delivered, and what users prefer."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, SmallInteger, text, true
from sqlalchemy.orm import Mapped, mapped_column

from agentflow.notifications.kinds import ChannelKind, Kind, NotificationState
from agentflow.table import Table, one_of


class Notification(Table):
    """Something that a user is told, written in the transaction that caused it. It is an outbox and the user's list.

    Without a foreign key to users: its check would lock the user's row, and the finaliser of a run may write here.
    """

    __tablename__ = "notifications"
    __table_args__ = (
        CheckConstraint(one_of("kind", Kind), name="kind_known"),
        # One for each cause: what is caused again (a repeated settlement, two workers at one chore) changes nothing.
        Index("notifications_cause_key", "owner_id", "cause", unique=True),
        Index("notifications_owner_idx", "owner_id", text("id DESC")),
        Index("notifications_unread_idx", "owner_id", text("id DESC"), postgresql_where=text("read_at IS NULL")),
        Index("notifications_told_idx", "owner_id", "transaction", "id"),
        Index("notifications_plan_idx", "plan_at", postgresql_where=text("plan_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID]
    transaction: Mapped[int] = mapped_column(  # that wrote it: who reads on goes by it, as with events
        BigInteger, server_default=text("pg_current_xact_id()::text::bigint")
    )
    kind: Mapped[str]  # Kind
    cause: Mapped[str]  # what it was caused by, once for its reader
    data: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))  # what its template tells
    created_at: Mapped[datetime] = mapped_column(server_default=text("agentflow_now()"))
    read_at: Mapped[datetime | None]
    plan_at: Mapped[datetime | None]  # when its deliveries are to be made; null: they are


class NotificationChannel(Table):
    """A way to reach a user, and the lease of the one worker that sends over it now."""

    __tablename__ = "notification_channels"
    __table_args__ = (
        CheckConstraint(one_of("kind", ChannelKind), name="kind_known"),
        CheckConstraint("(token IS NULL) = (lease_until IS NULL)", name="lease_has_end"),
        Index("notification_channels_owner_idx", "owner_id", text("id DESC")),
        Index("notification_channels_next_idx", "next_at", postgresql_where=text("next_at IS NOT NULL")),
        Index("notification_channels_leased_idx", "host", postgresql_where=text("token IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    kind: Mapped[str]  # ChannelKind
    name: Mapped[str]
    details: Mapped[dict[str, Any]]  # what its owner may see of it
    secret: Mapped[bytes] = mapped_column(LargeBinary)  # encrypted: its address, and what signs
    key_id: Mapped[str]  # the key of the ring that encrypted it
    host: Mapped[str]  # where it leads; of those that lead to one host, few are served at a time
    enabled: Mapped[bool] = mapped_column(server_default=true())
    created_at: Mapped[datetime] = mapped_column(server_default=text("agentflow_now()"))
    next_at: Mapped[datetime | None]  # when a worker is to be called for it (again); null: nothing waits
    token: Mapped[UUID | None]  # the lease of who sends over it
    lease_until: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(server_default="0")  # in a row; all that waits for it waits longer then
    open_at: Mapped[datetime | None]  # after a failure: nothing is sent over it before
    error: Mapped[str | None]  # of the last failure
    sent_at: Mapped[datetime | None]  # when something was sent over it last
    cap_day: Mapped[date | None]  # the day of its owner to which `cap_used` belongs
    cap_used: Mapped[int] = mapped_column(server_default="0")  # messages that were planned for that day


class NotificationDelivery(Table):
    """One notification at one channel."""

    __tablename__ = "notification_deliveries"
    __table_args__ = (
        CheckConstraint(one_of("state", NotificationState), name="state_known"),
        CheckConstraint("(state = 'SENDING') = (token IS NOT NULL)", name="sending_has_token"),
        CheckConstraint("(state = 'SENT') = (sent_at IS NOT NULL)", name="sent_has_time"),
        CheckConstraint("(state = 'DEAD') = (dead_at IS NOT NULL)", name="dead_has_time"),
        Index(
            "notification_deliveries_due_idx",
            "channel_id",
            "due_at",
            postgresql_where=text("state IN ('WAITING', 'SENDING')"),
        ),
        Index("notification_deliveries_kind_idx", "channel_id", "kind", text("planned_for DESC")),
        Index("notification_deliveries_owner_idx", "owner_id"),
        Index("notification_deliveries_dead_idx", text("notification_id DESC"), "channel_id",
              postgresql_where=text("state = 'DEAD'")),
    )  # fmt: skip

    notification_id: Mapped[UUID] = mapped_column(ForeignKey("notifications.id", ondelete="CASCADE"), primary_key=True)
    channel_id: Mapped[UUID] = mapped_column(
        ForeignKey("notification_channels.id", ondelete="CASCADE"), primary_key=True
    )
    owner_id: Mapped[UUID]
    kind: Mapped[str]  # the notification's
    state: Mapped[str] = mapped_column(server_default=NotificationState.WAITING)  # NotificationState
    batch: Mapped[str | None]  # those of one batch that are due go into one message; null: one of its own
    planned_for: Mapped[datetime]  # when it was to be sent first
    due_at: Mapped[datetime]  # when it is to be sent, or tried again
    give_up_at: Mapped[datetime]  # it is DEAD if it is not sent by then
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    token: Mapped[UUID | None]  # the lease under which it is SENDING
    sent_at: Mapped[datetime | None]
    dead_at: Mapped[datetime | None]
    error: Mapped[str | None]  # of the last attempt


class NotificationSettings(Table):
    """What a user prefers. Without a row: the defaults."""

    __tablename__ = "notification_settings"
    __table_args__ = (
        CheckConstraint("(quiet_from IS NULL) = (quiet_until IS NULL)", name="quiet_has_ends"),
        CheckConstraint("quiet_from <> quiet_until", name="quiet_ends_differ"),
        CheckConstraint("daily_cap > 0", name="cap_positive"),
        Index("notification_settings_summary_idx", "summary_at", postgresql_where=text("summary_at IS NOT NULL")),
    )

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    quiet_from: Mapped[int | None] = mapped_column(SmallInteger)  # minutes of their day
    quiet_until: Mapped[int | None] = mapped_column(SmallInteger)
    daily_cap: Mapped[int | None]  # messages a day and channel; null: the default
    types: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))  # {kind: {mode, channels: {id: mode}}}
    wants_finished: Mapped[bool] = mapped_column(server_default=text("false"))  # each run's end is noted
    summary_at: Mapped[datetime | None]  # when their next summaries are due; null: they have no channel
