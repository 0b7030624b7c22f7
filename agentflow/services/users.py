"""Carries out what a change of a user means for all that is theirs: their runs pause or go on, or everything goes.

A change marks the user (`users.follow_at`). Whoever changed them takes a turn at once; recovery takes the others, until
nothing is left to do, also when that process dies. A turn is bounded.
"""

from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.accounts import store
from agentflow.accounts.tables import User
from agentflow.clock import now
from agentflow.services import removal, suspension
from agentflow.services.transaction import Step, Steps

STALE_SECONDS: Final = 60.0
"""How long a user's key may still count somewhere: in a cache, while Redis is away, and until a request has ended."""


def follow(user_id: UUID) -> Steps[bool]:
    """Take a turn at what a user's suspension, return or deletion has left to do; returns whether nothing is left."""
    user: User | None = yield Step(store.user, user_id)
    if user is None or user.follow_at is None:
        return True
    if user.deleting_at is not None:
        done = yield from removal.remove(user_id, may_be_last=_is_past(user))
    elif user.suspended_at is not None:
        done = (yield from suspension.suspend(user_id)) and _is_past(user)
    else:
        done = yield from suspension.resume(user_id)
    yield Step(_note, user_id, user.suspended_at, user.deleting_at is not None, done)
    return done


def _is_past(user: User) -> bool:
    """Whether no request of theirs can still be under way that began before the suspension or deletion."""
    since = user.deleting_at or user.suspended_at
    return since is not None and now() >= since + timedelta(seconds=STALE_SECONDS)


def _note(session: Session, user_id: UUID, suspended_at: object, deleting: bool, done: bool) -> None:
    """Note that nothing is left to do, unless the opposite was done meanwhile; else that a turn is due soon."""
    user = store.user(session, user_id, lock=True)
    if user is None:
        return
    session.refresh(user)
    as_it_was = (user.suspended_at, user.deleting_at is not None) == (suspended_at, deleting)
    user.follow_at = None if done and as_it_was else now()
    session.flush()
