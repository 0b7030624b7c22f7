"""Adds users, gives them roles, suspends and resumes them. For admins."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.accounts import store
from agentflow.accounts.scopes import Role
from agentflow.accounts.tables import User
from agentflow.clock import now
from agentflow.errors import Conflict, NotFound


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


def change(session: Session, user_id: UUID, *, role: Role | None = None, suspended: bool | None = None) -> User:
    """Give a user another role, or suspend or resume them. While they are suspended, all their keys are refused.

    Raises:
        NotFound: there is no such user.
        Conflict: nobody would be left who is an admin and not suspended.
    """
    admins = store.lock_admins(session)
    user = get(session, user_id)
    session.refresh(user, with_for_update=True)
    if role is not None:
        user.role = role
    if suspended is not None:
        user.suspended_at = (user.suspended_at or now()) if suspended else None
    if admins == [user_id] and (user.role != Role.ADMIN or user.suspended_at is not None):
        raise Conflict(f"{user.name} is the only admin who is not suspended: make another one first")
    session.flush()
    return user
