"""Adds users, gives them roles, suspends, resumes and deletes them. For admins."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.accounts import store
from agentflow.accounts.scopes import Role
from agentflow.accounts.tables import User
from agentflow.clock import now
from agentflow.errors import Conflict, NotFound

FOLLOWED_WITHIN: Final = timedelta(seconds=10)
"""When recovery looks at a user who was changed: until then, whoever changed them does."""


def add(session: Session, name: str, role: Role) -> User:
    """A new user."""
    return get(session, store.add_user(session, name, role))


def page(session: Session, after: UUID | None, limit: int) -> Sequence[User]:
    """Users, the newest first, below the id `after`."""
    return store.users(session, after, limit)


def get(session: Session, user_id: UUID) -> User:
    """A user.

    Raises:
        NotFound: there is none.
    """
    user = store.user(session, user_id)
    if user is None:
        raise NotFound(f"there is no user {user_id}")
    return user


def set_time_zone(session: Session, user_id: UUID, name: str | None) -> User:
    """Give a user a time zone, which schedules, summaries and blocks use; None: none.

    Raises:
        NotFound: there is no such user.
    """
    user = _locked(session, user_id)
    user.time_zone = name
    session.flush()
    return user


def change(session: Session, user_id: UUID, *, role: Role | None = None, suspended: bool | None = None) -> User:
    """Give a user another role, or suspend or resume them. While they are suspended, all their keys are refused.

    A suspension ends their sessions. Their runs follow (`services/suspension.py`).

    Raises:
        NotFound: there is no such user.
        Conflict: nobody would be left who is an admin and not suspended; or the user is being deleted.
    """
    admins = store.lock_admins(session)
    user = _locked(session, user_id)
    if user.deleting_at is not None:
        raise Conflict(f"the user {user_id} is being deleted")
    if role is not None:
        user.role = role
    if suspended is not None and suspended != (user.suspended_at is not None):
        user.suspended_at = now() if suspended else None
        user.follow_at = now() + FOLLOWED_WITHIN
        if suspended:
            store.end_sessions(session, user_id)
    _refuse_without_admin(admins, user)
    session.flush()
    return user


def delete(session: Session, user_id: UUID) -> User:
    """Begin to delete a user: from now on they are nobody. All that is theirs follows (`services/removal.py`).

    Raises:
        NotFound: there is no such user.
        Conflict: nobody would be left who is an admin and not suspended.
    """
    admins = store.lock_admins(session)
    user = _locked(session, user_id)
    if user.deleting_at is None:
        user.deleting_at = now()
        user.follow_at = user.deleting_at + FOLLOWED_WITHIN
        user.suspended_at = user.suspended_at or now()
        user.password_hash = user.sign_in_name = None
        store.end_sessions(session, user_id)
        _refuse_without_admin(admins, user)
        session.flush()
    return user


def _locked(session: Session, user_id: UUID) -> User:
    user = get(session, user_id)
    session.refresh(user, with_for_update=True)
    return user


def _refuse_without_admin(admins: Sequence[UUID], user: User) -> None:
    if list(admins) == [user.id] and (user.role != Role.ADMIN or user.suspended_at is not None):
        raise Conflict(f"{user.id} is the only admin who is not suspended: make another one first")
