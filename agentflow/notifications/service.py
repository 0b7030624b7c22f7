"""Writes notifications into the outbox, and lets their readers list them and mark them as read.

Whoever causes a notification calls `note` in the transaction that causes it. What is rolled back tells nobody, and what
happens again tells nobody twice.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.errors import EngineError, NotFound
from agentflow.notifications import store
from agentflow.notifications.kinds import FOR_ADMINS, Kind
from agentflow.notifications.tables import Notification

MOST_DATA: Final = 16_384
"""Characters of JSON that a notification may hold: it tells what happened, and is no copy of it."""


MOST_COUNTED: Final = 1_000
"""Unread notifications are counted up to this."""


def note(session: Session, owner_id: UUID, kind: Kind, cause: str, data: Mapping[str, Any]) -> UUID | None:
    """Tell a user something, if this transaction is committed.

    Args:
        session: the transaction that causes it.
        owner_id: the user.
        kind: what it is about.
        cause: what it was caused by, such as `schedule-paused:<id>:<time>`: the user is told once for each.
        data: what the template of the kind tells: JSON values, ids and times.

    Returns:
        its id; None: they were told before, or are being deleted.

    Raises:
        EngineError: the data cannot be stored.
    """
    return store.note(session, owner_id, Kind(kind), cause, _storable(data))


def note_admins(session: Session, kind: Kind, cause: str, data: Mapping[str, Any]) -> int:
    """Tell every admin something, as `note` does; returns how many were told that had not been before.

    Raises:
        EngineError: the kind is not one for admins, or the data cannot be stored.
    """
    if kind not in FOR_ADMINS:
        raise EngineError(f"{kind} is not for admins")
    return store.note_admins(session, kind, cause, _storable(data))


def page(
    session: Session, owner_id: UUID, kind: Kind | None, read: bool | None, after: UUID | None, limit: int
) -> Sequence[Notification]:
    """The reader's notifications, the newest first, below the id `after`; of that kind, read or unread ones only."""
    return store.page(session, owner_id, kind, read, after, limit)


def get(session: Session, owner_id: UUID, notification_id: UUID) -> Notification:
    """One of the reader's notifications.

    Raises:
        NotFound: there is none, or it is another's.
    """
    found = store.get(session, owner_id, notification_id)
    if found is None:
        raise NotFound(f"there is no notification {notification_id}")
    return found


def unread(session: Session, owner_id: UUID) -> int:
    """How many of the reader's notifications are unread, counted up to `MOST_COUNTED`."""
    return store.unread(session, owner_id, MOST_COUNTED)


def mark(session: Session, owner_id: UUID, notification_id: UUID, *, read: bool) -> Notification:
    """Mark one as read or unread. Idempotent.

    Raises:
        NotFound: there is none, or it is another's.
    """
    found = get(session, owner_id, notification_id)
    if read:
        store.mark_read(session, owner_id, [notification_id], None)
    else:
        store.mark_unread(session, owner_id, notification_id)
    session.refresh(found)
    return found


def mark_all_read(session: Session, owner_id: UUID, up_to: UUID | None) -> int:
    """Mark all as read, or all up to one, as it was listed: what came after stays unread. Returns how many were not."""
    return store.mark_read(session, owner_id, None, up_to)


def public(one: Notification) -> dict[str, Any]:
    """A notification as programs get it."""
    return {"id": str(one.id), "type": one.kind, "created_at": one.created_at.isoformat(), "data": one.data}


def _storable(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without what PostgreSQL's jsonb refuses: NUL, and halves of characters."""
    made = _clean(dict(data))
    if len(store.as_json(made)) > MOST_DATA:
        raise EngineError(f"a notification holds at most {MOST_DATA} characters")
    assert isinstance(made, dict)
    return made


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_clean(str(name)): _clean(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(inner) for inner in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value
