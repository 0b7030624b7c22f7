"""Signs people in with name and password, and sets passwords.

What is slow, the hash, is done between transactions and not in one, so that it holds no connection of the database.
"""

import unicodedata
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.accounts import passwords, store
from agentflow.accounts.tables import User
from agentflow.errors import Conflict, Malformed, NotFound, Unauthenticated

_WRONG: Final = "the name or the password is wrong"


@dataclass(frozen=True, slots=True)
class Claimed:
    """Who somebody says to be; None: nobody who has a password."""

    user_id: UUID | None
    password_hash: str | None


def folded(name: str) -> str:
    """The form of a name in which it is compared: without differences of case, of width, and at its ends."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()


def claimed(session: Session, name: str) -> Claimed:
    """The user with a password who has that name."""
    user = store.user_named(session, folded(name))
    return Claimed(None, None) if user is None else Claimed(user.id, user.password_hash)


def claimed_by_id(session: Session, user_id: UUID) -> Claimed:
    """A user who is to prove that they know their password.

    Raises:
        Conflict: they have none.
    """
    user = store.user(session, user_id)
    if user is None or user.password_hash is None:
        raise Conflict("you have no password yet: an admin sets the first one")
    return Claimed(user.id, user.password_hash)


def proven(who: Claimed, password: str) -> UUID:
    """The id of the user, if that is their password. It takes as long if there is no such user.

    Raises:
        Unauthenticated: it is not.
    """
    if not passwords.fits(who.password_hash, password) or who.user_id is None:
        raise Unauthenticated(_WRONG)
    return who.user_id


def renewed(who: Claimed, password: str) -> str | None:
    """The hash to store instead of the present one, where the recommended parameters have changed; else None."""
    outdated = who.password_hash is not None and passwords.is_outdated(who.password_hash)
    return passwords.hashed(password) if outdated else None


def confirm(session: Session, who: Claimed, renewed_hash: str | None) -> None:
    """See to it that the password that was proven is still the user's, and store its new hash, if there is one.

    Raises:
        Unauthenticated: it was changed meanwhile.
    """
    user = _locked(session, who.user_id)
    if user is None or user.password_hash != who.password_hash:
        raise Unauthenticated(_WRONG)
    if renewed_hash is not None:
        user.password_hash = renewed_hash
        session.flush()


def set_password(session: Session, user_id: UUID, password_hash: str) -> None:
    """Give a user a password, and end all their sessions.

    Raises:
        NotFound: there is no such user.
        Conflict: another user with a password has that name, or the user is being deleted.
    """
    user = _locked(session, user_id)
    if user is None:
        raise NotFound(f"there is no user {user_id}")
    if user.deleting_at is not None:
        raise Conflict(f"the user {user_id} is being deleted")
    store.lock_sign_in_names(session)
    name = folded(user.name)
    other = store.user_named(session, name)
    if other is not None and other.id != user_id:
        raise Conflict("another user with a password has the same name, so this one could not be told from them")
    user.password_hash, user.sign_in_name = password_hash, name
    store.end_sessions(session, user_id)
    session.flush()


def refuse_weak(name: str, password: str) -> None:
    """See to it that a password is not the name itself.

    Raises:
        Malformed: it is.
    """
    if folded(password) == folded(name):
        raise Malformed("password: it is the user's name")


def _locked(session: Session, user_id: UUID | None) -> User | None:
    user = store.user(session, user_id, lock=True) if user_id is not None else None
    if user is not None:
        session.refresh(user)
    return user
