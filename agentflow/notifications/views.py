"""Shows notifications as their readers see them, in lists and live."""

from agentflow.notifications import rendering
from agentflow.notifications.kinds import Kind
from agentflow.notifications.schemas import NotificationView
from agentflow.notifications.tables import Notification


def shown(one: Notification) -> NotificationView:
    """A notification as its reader sees it."""
    return NotificationView(
        id=one.id,
        type=Kind(one.kind),
        title=rendering.subject(one.kind, one.data),
        data=one.data,
        created_at=one.created_at,
        read_at=one.read_at,
    )
