"""Stores notifications, channels, deliveries and preferences. It decides nothing.

How a message is claimed and marked stands in `storage/hot/sql/16_notifications.sql`.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import CursorResult, delete, func, literal, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from agentflow.accounts.tables import User
from agentflow.engine.codec import dumps
from agentflow.notifications.kinds import NotificationState
from agentflow.notifications.tables import (
    Notification,
    NotificationChannel,
    NotificationDelivery,
    NotificationSettings,
)
from agentflow.storage.views.events import OLDEST_RUNNING


class Claimed(NamedTuple):
    """The reply of `agentflow_claim_channel`.

    Attributes:
        verdict: see there.
        notifications: their ids, of one message.
        attempt: which try at it this is, from 1.
        failures: how often the channel failed in a row before.
    """

    verdict: str
    notifications: Sequence[UUID] | None
    attempt: int | None
    failures: int | None


class Letter(NamedTuple):
    """A notification that could not be delivered over a channel."""

    notification: Notification
    delivery: NotificationDelivery
    channel: NotificationChannel


def as_json(data: Mapping[str, Any]) -> str:
    """The data of a notification as JSON text."""
    return dumps(dict(data))


def note(session: Session, owner_id: UUID, kind: str, cause: str, data: Mapping[str, Any]) -> UUID | None:
    """Write a notification; its id, or None: it was written before, or its reader is being deleted."""
    values = {"owner": owner_id, "kind": kind, "cause": cause, "data": as_json(data)}
    statement = "SELECT agentflow_note(:owner, :kind, :cause, CAST(:data AS jsonb))"
    found: UUID | None = session.scalar(text(statement), values)
    return found


def note_admins(session: Session, kind: str, cause: str, data: Mapping[str, Any]) -> int:
    """Write a notification for each admin; for how many it is new."""
    values = {"kind": kind, "cause": cause, "data": as_json(data)}
    return session.scalar(text("SELECT agentflow_note_admins(:kind, :cause, CAST(:data AS jsonb))"), values) or 0


# The list of a reader


def page(
    session: Session, owner_id: UUID, kind: str | None, read: bool | None, after: UUID | None, limit: int
) -> Sequence[Notification]:
    """The reader's notifications, the newest first, below the id `after`; of that kind, read or unread only."""
    query = select(Notification).where(Notification.owner_id == owner_id)
    if kind is not None:
        query = query.where(Notification.kind == kind)
    if read is not None:
        query = query.where(Notification.read_at.is_not(None) if read else Notification.read_at.is_(None))
    if after is not None:
        query = query.where(Notification.id < after)
    return session.scalars(query.order_by(Notification.id.desc()).limit(limit)).all()


class Told(NamedTuple):
    """How far a reader has read: up to a notification of a transaction."""

    transaction: int
    id: UUID


def present(session: Session) -> Told:
    """The place before whatever is not yet there to be read."""
    return Told(session.execute(select(OLDEST_RUNNING)).scalar_one(), UUID(int=0))


def later(session: Session, owner_id: UUID, place: Told, limit: int) -> tuple[Sequence[Notification], bool]:
    """What the reader was told after a place, in the order of commits; and whether running transactions hold back more.

    Ids are given before the commit, so by id alone a notification could appear behind a reader.
    """
    behind = tuple_(Notification.transaction, Notification.id) > tuple_(literal(place.transaction), literal(place.id))
    query = (
        select(Notification, Notification.transaction < OLDEST_RUNNING)
        .where(Notification.owner_id == owner_id, behind)
        .order_by(Notification.transaction, Notification.id)
        .limit(limit)
    )
    rows = session.execute(query).all()
    seen = [one for one, is_decided in rows if is_decided]
    return seen, len(seen) < len(rows)


def get(session: Session, owner_id: UUID, notification_id: UUID) -> Notification | None:
    """One of the reader's notifications."""
    query = select(Notification).where(Notification.id == notification_id, Notification.owner_id == owner_id)
    return session.scalar(query)


def unread(session: Session, owner_id: UUID, most: int) -> int:
    """How many of the reader's notifications are unread, counted up to `most`."""
    some = select(Notification.id).where(Notification.owner_id == owner_id, Notification.read_at.is_(None)).limit(most)
    return session.scalar(select(func.count()).select_from(some.subquery())) or 0


def mark_read(session: Session, owner_id: UUID, ids: Collection[UUID] | None, up_to: UUID | None) -> int:
    """Mark the reader's unread notifications as read: those with an id of `ids`, or all up to the id `up_to`."""
    query = update(Notification).where(Notification.owner_id == owner_id, Notification.read_at.is_(None))
    if ids is not None:
        query = query.where(Notification.id.in_(list(ids)))
    if up_to is not None:
        query = query.where(Notification.id <= up_to)
    return _count(session.execute(query.values(read_at=func.agentflow_now())))


def mark_unread(session: Session, owner_id: UUID, notification_id: UUID) -> None:
    """Mark one as unread."""
    session.execute(
        update(Notification)
        .where(Notification.id == notification_id, Notification.owner_id == owner_id)
        .values(read_at=None)
    )


def delete_older(session: Session, days: int, limit: int) -> int:
    """Delete notifications, at most `limit`, that are older than so many days and of which nothing is to be sent."""
    old = (
        select(Notification.id)
        .where(
            Notification.id < func.agentflow_id_at(func.agentflow_now() - timedelta(days=days)),
            Notification.plan_at.is_(None),
            ~select(NotificationDelivery.notification_id)
            .where(
                NotificationDelivery.notification_id == Notification.id,
                NotificationDelivery.state.in_((NotificationState.WAITING, NotificationState.SENDING)),
            )
            .exists(),
        )
        .order_by(Notification.id)
        .limit(limit)
    )
    return _count(session.execute(delete(Notification).where(Notification.id.in_(old))))


# What readers prefer


def settings_of(session: Session, owner_id: UUID, *, lock: bool = False) -> NotificationSettings | None:
    """What a reader prefers; `lock`: there is a row, and nobody else changes it until this transaction ends."""
    query = select(NotificationSettings).where(NotificationSettings.owner_id == owner_id)
    if not lock:
        return session.scalar(query)
    session.execute(insert(NotificationSettings).values(owner_id=owner_id).on_conflict_do_nothing())
    return session.scalar(query.with_for_update().execution_options(populate_existing=True))


# Channels


def add_channel(session: Session, channel: NotificationChannel) -> None:
    """Write a new channel."""
    session.add(channel)
    session.flush()
    session.refresh(channel)


def channel(
    session: Session, channel_id: UUID, owner_id: UUID | None = None, *, lock: bool = False
) -> NotificationChannel | None:
    """One channel, of that owner only; `lock`: nobody else changes it until this transaction ends."""
    query = select(NotificationChannel).where(NotificationChannel.id == channel_id)
    if owner_id is not None:
        query = query.where(NotificationChannel.owner_id == owner_id)
    return session.scalar(query.with_for_update() if lock else query)


def channels(session: Session, owner_id: UUID, after: UUID | None, limit: int) -> Sequence[NotificationChannel]:
    """The owner's channels, the newest first, below the id `after`."""
    query = select(NotificationChannel).where(NotificationChannel.owner_id == owner_id)
    if after is not None:
        query = query.where(NotificationChannel.id < after)
    return session.scalars(query.order_by(NotificationChannel.id.desc()).limit(limit)).all()


def channel_ids(session: Session, owner_id: UUID) -> frozenset[UUID]:
    """The ids of all channels of an owner."""
    return frozenset(
        session.scalars(select(NotificationChannel.id).where(NotificationChannel.owner_id == owner_id)).all()
    )


def count_channels(session: Session, owner_id: UUID) -> int:
    """How many channels the owner has."""
    query = select(func.count()).select_from(NotificationChannel).where(NotificationChannel.owner_id == owner_id)
    return session.scalar(query) or 0


def channels_under_other_keys(session: Session, key_id: str, limit: int) -> Sequence[NotificationChannel]:
    """Channels of everybody that another key encrypted, locked for this transaction."""
    query = select(NotificationChannel).where(NotificationChannel.key_id != key_id)
    return session.scalars(query.order_by(NotificationChannel.id).limit(limit).with_for_update()).all()


def count_under_other_keys(session: Session, key_id: str) -> int:
    """How many channels another key encrypted."""
    query = select(func.count()).select_from(NotificationChannel).where(NotificationChannel.key_id != key_id)
    return session.scalar(query) or 0


# Planning


def to_plan(session: Session, limit: int) -> Sequence[Notification]:
    """Notifications whose deliveries are to be made, the oldest first, locked for this transaction."""
    query = select(Notification).where(Notification.plan_at <= func.agentflow_now())
    return session.scalars(query.order_by(Notification.plan_at).limit(limit).with_for_update(skip_locked=True)).all()


def readers(session: Session, ids: Collection[UUID]) -> dict[UUID, User]:
    """The users with these ids."""
    return {user.id: user for user in session.scalars(select(User).where(User.id.in_(list(ids))))}


def open_channels(session: Session, owners: Collection[UUID]) -> Sequence[NotificationChannel]:
    """The channels of these users that are on, by id, locked for this transaction: their caps are counted."""
    query = select(NotificationChannel).where(
        NotificationChannel.owner_id.in_(list(owners)), NotificationChannel.enabled
    )
    return session.scalars(query.order_by(NotificationChannel.id).with_for_update()).all()


def latest_plan(session: Session, channel_id: UUID, kind: str) -> datetime | None:
    """When the last notification of that kind was planned for, over that channel."""
    query = select(NotificationDelivery.planned_for).where(
        NotificationDelivery.channel_id == channel_id, NotificationDelivery.kind == kind
    )
    return session.scalar(query.order_by(NotificationDelivery.planned_for.desc()).limit(1))


def add_delivery(session: Session, delivery: NotificationDelivery) -> bool:
    """Write a delivery, unless it is there; whether it is new."""
    columns = {
        column.key: getattr(delivery, column.key)
        for column in NotificationDelivery.__table__.columns
        if getattr(delivery, column.key) is not None
    }
    return _count(session.execute(insert(NotificationDelivery).values(columns).on_conflict_do_nothing())) == 1


def call_for(session: Session, channel_id: UUID, due: datetime) -> None:
    """See to it that a worker is called for a channel by then."""
    earlier = func.least(func.coalesce(NotificationChannel.next_at, due), due)
    session.execute(
        update(NotificationChannel).where(NotificationChannel.id == channel_id).values(next_at=earlier),
        execution_options={"synchronize_session": False},
    )


def call_due(session: Session, seconds: float, limit: int) -> Sequence[UUID]:
    """Channels for which a worker is to be called now; they are left alone for so many seconds then."""
    due = (
        select(NotificationChannel.id)
        .where(NotificationChannel.next_at <= func.agentflow_now())
        .order_by(NotificationChannel.next_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    query = (
        update(NotificationChannel)
        .where(NotificationChannel.id.in_(due))
        .values(next_at=func.agentflow_now() + timedelta(seconds=seconds))
        .returning(NotificationChannel.id)
    )
    return session.scalars(query, execution_options={"synchronize_session": False}).all()


# Delivering


def claim(session: Session, channel_id: UUID, token: UUID, bounds: Mapping[str, Any]) -> Claimed:
    """Take the next message of a channel; `bounds`: lease, per_host, per_owner, most, attempts."""
    statement = (
        "SELECT * FROM agentflow_claim_channel(:channel, :token, :lease, :per_host, :per_owner, :most, :attempts)"
    )
    return Claimed(*session.execute(text(statement), {"channel": channel_id, "token": token, **bounds}).one())


def with_ids(session: Session, ids: Collection[UUID]) -> Sequence[Notification]:
    """The notifications with these ids, the oldest first."""
    return session.scalars(select(Notification).where(Notification.id.in_(list(ids))).order_by(Notification.id)).all()


def sent(session: Session, channel_id: UUID, token: UUID) -> int:
    """Mark what was claimed with this token as sent; for how many notifications that was still so."""
    statement = "SELECT agentflow_message_sent(:channel, :token)"
    return session.scalar(text(statement), {"channel": channel_id, "token": token}) or 0


def failed(session: Session, channel_id: UUID, token: UUID, error: str, values: Mapping[str, Any]) -> int:
    """Mark what was claimed with this token as failed; `values`: dead, again, closed, attempts. How many are dead."""
    statement = "SELECT agentflow_message_failed(:channel, :token, :error, :dead, :again, :closed, :attempts)"
    return session.scalar(text(statement), {"channel": channel_id, "token": token, "error": error, **values}) or 0


# Dead letters


def dead(session: Session, after: tuple[UUID, UUID] | None, limit: int) -> Sequence[Letter]:
    """Dead letters of everybody, the newest first, behind (notification, channel)."""
    query = (
        select(Notification, NotificationDelivery, NotificationChannel)
        .join(NotificationDelivery, NotificationDelivery.notification_id == Notification.id)
        .join(NotificationChannel, NotificationChannel.id == NotificationDelivery.channel_id)
        .where(NotificationDelivery.state == NotificationState.DEAD)
    )
    if after is not None:
        notification, channel_id = after
        query = query.where(
            (NotificationDelivery.notification_id < notification)
            | ((NotificationDelivery.notification_id == notification) & (NotificationDelivery.channel_id > channel_id))
        )
    order = (NotificationDelivery.notification_id.desc(), NotificationDelivery.channel_id)
    return [Letter(*row) for row in session.execute(query.order_by(*order).limit(limit)).all()]


def settle_dead(
    session: Session, state: NotificationState, notification_id: UUID | None, channel_id: UUID | None, limit: int
) -> Sequence[UUID]:
    """Make dead letters WAITING (due now, as if new) or DROPPED: one's, a channel's, or all; their channels' ids."""
    some = select(NotificationDelivery.notification_id, NotificationDelivery.channel_id).where(
        NotificationDelivery.state == NotificationState.DEAD
    )
    if notification_id is not None:
        some = some.where(NotificationDelivery.notification_id == notification_id)
    if channel_id is not None:
        some = some.where(NotificationDelivery.channel_id == channel_id)
    found = session.execute(some.order_by(NotificationDelivery.notification_id).limit(limit).with_for_update()).all()
    values: dict[str, Any] = {"state": state, "dead_at": None}
    if state is NotificationState.WAITING:
        now = func.agentflow_now()
        values |= {"attempts": 0, "due_at": now, "give_up_at": now + timedelta(days=3), "batch": None}
    for row in found:
        session.execute(
            update(NotificationDelivery)
            .where(NotificationDelivery.notification_id == row[0], NotificationDelivery.channel_id == row[1])
            .values(values),
            execution_options={"synchronize_session": False},
        )
    return [row[1] for row in found]


def died_since(session: Session, moment: datetime, but: str) -> tuple[int, str | None]:
    """How many notifications, but those of one kind, became dead letters since then; and the error of one."""
    query = select(func.count(), func.max(NotificationDelivery.error)).where(
        NotificationDelivery.state == NotificationState.DEAD,
        NotificationDelivery.dead_at >= moment,
        NotificationDelivery.kind != but,
    )
    number, error = session.execute(query).one()
    return number, error


def deliveries(session: Session, ids: Collection[UUID]) -> Sequence[NotificationDelivery]:
    """Where these notifications stand at their channels."""
    query = select(NotificationDelivery).where(NotificationDelivery.notification_id.in_(list(ids)))
    return session.scalars(query.order_by(NotificationDelivery.channel_id)).all()


def _count(result: Any) -> int:
    assert isinstance(result, CursorResult)
    return int(result.rowcount)


# What is watched


def note_expiring(session: Session, days: int, limit: int) -> int:
    """Tell owners of credentials that expire within so many days, once for each; how many are told."""
    values = {"days": days, "limit": limit}
    return session.scalar(text("SELECT agentflow_note_expiring(:days, :limit)"), values) or 0


def summaries_due(session: Session, limit: int) -> Sequence[NotificationSettings]:
    """What those prefer whose next summaries are due, locked for this transaction."""
    query = select(NotificationSettings).where(NotificationSettings.summary_at <= func.agentflow_now())
    order = query.order_by(NotificationSettings.summary_at).limit(limit)
    return session.scalars(order.with_for_update(skip_locked=True)).all()
