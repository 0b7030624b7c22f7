"""Who may use this installation: users and their API keys, by digest. Keys themselves never come here."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, literal, or_, select, text, update
from sqlalchemy.orm import Session

from agentflow.ids import new_id
from agentflow.storage.tables import ApiKey, User

_USE_RESOLUTION = timedelta(minutes=1)  # so that a busy key does not write at every request


def lock_keys(session: Session) -> None:
    """Nobody else makes a key until this transaction ends: two first starts at once must make one key."""
    session.execute(text("LOCK TABLE api_keys IN SHARE ROW EXCLUSIVE MODE"))


def any_key(session: Session) -> bool:
    """Whether any key was ever made."""
    return session.scalar(select(ApiKey.id).limit(1)) is not None


def add_user(session: Session, name: str) -> UUID:
    """Write a new user; returns the id."""
    user = User(id=new_id(), name=name)
    session.add(user)
    session.flush()
    return user.id


def add_key(session: Session, owner_id: UUID, name: str, prefix: str, digest: str) -> UUID:
    """Write a new key of the user `owner_id`; returns the key's id."""
    key = ApiKey(id=new_id(), owner_id=owner_id, name=name, prefix=prefix, digest=digest)
    session.add(key)
    session.flush()
    return key.id


def owner_of_key(session: Session, digest: str) -> UUID | None:
    """Whose key has this digest; None where there is none, or it was revoked. Notes the use, to the minute."""
    owner = session.scalar(select(ApiKey.owner_id).where(ApiKey.digest == digest, ApiKey.revoked_at.is_(None)))
    if owner is not None:
        session.execute(
            update(ApiKey)
            .where(
                ApiKey.digest == digest,
                or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < func.now() - literal(_USE_RESOLUTION)),
            )
            .values(last_used_at=func.date_trunc("minute", func.now()))
        )
    return owner
