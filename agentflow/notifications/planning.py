"""Decides where and when the notifications of the outbox are sent, and writes a delivery for each channel.

Preferences are read here and not where something is caused, so that a cause costs one insert. A notification of a user
without channels stands in their list, and nothing else is done about it. While a user is suspended nothing is planned
for them; who is being deleted is told nothing.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.accounts.tables import User
from agentflow.clock import now
from agentflow.notifications import preferences, store, timing
from agentflow.notifications.kinds import Kind, Mode
from agentflow.notifications.preferences import Preferences
from agentflow.notifications.tables import Notification, NotificationChannel, NotificationDelivery

MOST: Final = 100
"""Notifications that one transaction plans: it holds up other chores for some tenths of a second at most."""

_SUSPENDED: Final = timedelta(minutes=10)
"""After so long it is seen whether a suspended user is back."""

_AFTER_QUIET: Final = "quiet"
"""The batch of what quiet hours held up: it comes in one message at their end."""

_OVER_THE_CAP: Final = Mode.DAILY
"""How what is beyond a day's messages is sent."""


def plan(session: Session, limit: int = MOST) -> list[UUID]:
    """Plan the next notifications of the outbox; returns the reader of each. Workers are to be called for channels."""
    found = store.to_plan(session, limit)
    if not found:
        return []
    owners = {one.owner_id for one in found}
    users = store.readers(session, owners)
    channels: dict[UUID, list[NotificationChannel]] = {owner: [] for owner in owners}
    for channel in store.open_channels(session, owners):
        channels[channel.owner_id].append(channel)
    preferred = {owner: preferences.get(session, owner) for owner in owners if channels[owner]}
    at = now()
    for one in found:
        user = users.get(one.owner_id)
        if user is not None and user.suspended_at is not None and user.deleting_at is None:
            one.plan_at = at + _SUSPENDED
            continue
        one.plan_at = None
        if user is not None and user.deleting_at is None:
            for channel in channels[one.owner_id]:
                _deliver(session, at, user, preferred[one.owner_id], one, channel)
    session.flush()
    return [one.owner_id for one in found]


def _deliver(
    session: Session,
    at: datetime,
    user: User,
    preferred: Preferences,
    one: Notification,
    channel: NotificationChannel,
) -> None:
    kind, zone = Kind(one.kind), preferences.zone_of(user)
    mode = preferred.mode(kind, channel.id)
    if mode is Mode.OFF:
        return
    if one.data.get("at_once"):
        mode = Mode.AT_ONCE
    latest = store.latest_plan(session, channel.id, kind) if mode is Mode.BACKOFF else None
    planned = timing.plan(at, kind, mode, zone, preferred.quiet, latest)
    if planned.batch is None and planned.due > at:
        planned = replace(planned, batch=_AFTER_QUIET)
    elif planned.batch is None and not _takes(channel, at.astimezone(zone), preferred.cap):
        planned = timing.plan(at, kind, _OVER_THE_CAP, zone, preferred.quiet, None)
    made = NotificationDelivery(
        notification_id=one.id,
        channel_id=channel.id,
        owner_id=one.owner_id,
        kind=kind,
        batch=planned.batch,
        planned_for=planned.due,
        due_at=planned.due,
        give_up_at=planned.due + timing.GIVE_UP,
    )
    if store.add_delivery(session, made):
        channel.next_at = planned.due if channel.next_at is None else min(channel.next_at, planned.due)


def _takes(channel: NotificationChannel, there: datetime, cap: int) -> bool:
    """Count a message against its channel's messages of that day; whether there is room."""
    if channel.cap_day != there.date():
        channel.cap_day, channel.cap_used = there.date(), 0
    if channel.cap_used >= cap:
        return False
    channel.cap_used += 1
    return True
