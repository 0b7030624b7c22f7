"""Lists, replays and drops dead letters: notifications that could not be delivered. For admins."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.clock import now
from agentflow.notifications import store
from agentflow.notifications.kinds import NotificationState
from agentflow.notifications.store import Letter

MOST: Final = 1_000
"""Dead letters that one transaction replays or drops."""


def page(session: Session, after: tuple[UUID, UUID] | None, limit: int) -> Sequence[Letter]:
    """Dead letters of everybody, the newest first, behind (notification, channel)."""
    return store.dead(session, after, limit)


def replay(session: Session, notification_id: UUID | None, channel_id: UUID | None) -> int:
    """Send dead letters again, as if they were new: of a notification, a channel, both, or all; returns how many."""
    found = store.settle_dead(session, NotificationState.WAITING, notification_id, channel_id, MOST)
    for channel in sorted(set(found)):
        store.call_for(session, channel, now())
    return len(found)


def drop(session: Session, notification_id: UUID | None, channel_id: UUID | None) -> int:
    """Give dead letters up: of a notification, a channel, both, or all; returns how many."""
    return len(store.settle_dead(session, NotificationState.DROPPED, notification_id, channel_id, MOST))
