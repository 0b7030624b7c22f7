"""Begins, lists and ends the sessions of people, and identifies callers by them.

A session's secret is 256 random bits in a cookie and stored as a SHA-256 digest. Its CSRF token is derived from the
secret, so that it needs no place of its own: only who reads the cookie, or our reply, can know it. A session ends when
it was idle for too long, at its absolute limit, when its person or an admin ends it, when its user is suspended or
deleted, and when the password changes.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.accounts import store
from agentflow.accounts.keys import Caller
from agentflow.accounts.scopes import OF_ROLE, Role, Scope
from agentflow.accounts.tables import UserSession
from agentflow.clock import now
from agentflow.errors import NotFound, Unauthenticated
from agentflow.settings import settings

MOST: Final = 100
"""Sessions that a user may have; a new one ends the oldest beyond."""

SECRET_LENGTH: Final = 43
"""Characters of a secret."""

_LONGEST_AGENT: Final = 200  # characters that are kept of what a browser calls itself


def digest(secret: str) -> str:
    """What is stored of a session's secret: SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def csrf_token(secret: str) -> str:
    """What a changing request of the session must bring beside its cookie."""
    return hmac.new(secret.encode(), b"agentflow csrf", "sha256").hexdigest()


def is_csrf_token(secret: str, given: str) -> bool:
    """Whether it is the session's CSRF token."""
    return hmac.compare_digest(csrf_token(secret).encode(), given.encode())


def begin(session: Session, user_id: UUID, source: str, agent: str) -> tuple[str, UserSession]:
    """A new session of a user, with a secret and an id that were never used. Returns the secret, and what is stored.

    Args:
        session: the transaction.
        user_id: who has signed in.
        source: the address from which.
        agent: what their browser calls itself.

    Raises:
        Unauthenticated: the user is suspended, or no more.
    """
    user = store.user(session, user_id, lock=True)  # a suspension waits for this one, and ends it
    if user is None:
        raise Unauthenticated("the user is not there any more")
    session.refresh(user)
    if user.suspended_at is not None:
        raise Unauthenticated("this user is suspended")
    moment = now()
    store.keep_newest_sessions(session, user_id, MOST - 1, moment, moment - _idle())
    secret = secrets.token_urlsafe(32)
    made = UserSession(
        user_id=user_id,
        digest=digest(secret),
        source=source,
        agent=agent.replace("\x00", "")[:_LONGEST_AGENT],
        created_at=moment,
        last_used_at=moment,
        expires_at=moment + timedelta(seconds=settings().session_seconds),
    )
    return secret, store.add_session(session, made)


def verify(session: Session, secret: str) -> Caller:
    """Whose session it is. It may do what its user's role allows.

    Raises:
        Unauthenticated: it is nobody's, has ended, or its user is suspended.
    """
    found = store.used_session(session, digest(secret)) if len(secret) == SECRET_LENGTH else None
    moment = now()
    if found is None or moment >= found.expires_at or moment >= found.last_used_at + _idle():
        raise Unauthenticated("this session has ended: sign in again")
    if found.user_suspended_at is not None:
        raise Unauthenticated("the user of this session is suspended")
    store.note_session_use(session, found.id, moment)
    role = Role(found.role)
    return Caller(found.user_id, None, role, OF_ROLE[role], found.expires_at, found.id)


def page(
    session: Session, caller: Caller, user_id: UUID | None, after: UUID | None, limit: int
) -> Sequence[UserSession]:
    """A user's sessions, the newest first: the caller's, or those of `user_id` where the caller is an admin.

    Raises:
        NotFound: there is no such user, or it is another one and the caller is no admin.
    """
    of = user_id or caller.user_id
    if of != caller.user_id and (Scope.ADMIN not in caller.scopes or store.user(session, of) is None):
        raise NotFound(f"there is no user {of}")
    moment = now()
    return store.sessions(session, of, moment, moment - _idle(), after, limit)


def end(session: Session, caller: Caller, session_id: UUID) -> UUID:
    """End a session of the caller, or of anybody where they are an admin. Returns whose it was.

    Raises:
        NotFound: there is no such session, or it is another's and the caller is no admin.
        Forbidden: the caller has a key that lacks the scope `keys:manage`.
    """
    found = store.session_of(session, session_id)
    if found is None or (found.user_id != caller.user_id and Scope.ADMIN not in caller.scopes):
        raise NotFound(f"there is no session {session_id}")
    if caller.session_id is None:
        caller.require(Scope.KEYS_MANAGE)
    user_id = found.user_id
    session.delete(found)
    session.flush()
    return user_id


def _idle() -> timedelta:
    return timedelta(seconds=settings().session_idle_seconds)
