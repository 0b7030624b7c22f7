"""Stores users and their API keys, by digest (a key itself never comes here), and counts what each user stores."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, literal, or_, select, text, update
from sqlalchemy.orm import Session

from agentflow.accounts.tables import ApiKey, User
from agentflow.ids import new_id

_STORED = text(
    "SELECT (SELECT coalesce(sum(pg_column_size(v.document) + coalesce(pg_column_size(v.plan), 0)), 0) "
    "FROM graph_versions v JOIN graphs g ON g.id = v.graph_id "
    "WHERE g.owner_id = :owner AND g.deleted_at IS NULL AND NOT g.inline) "
    "+ (SELECT coalesce(sum(pg_column_size(m.value)), 0) FROM memories m WHERE m.owner_id = :owner)"
)
_QUOTA_LOCK = text("SELECT pg_advisory_xact_lock(uuid_hash(:owner), -3)")
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


def stored_bytes(session: Session, owner_id: UUID) -> int:
    """Bytes of the owner's graphs and memories, as they are kept. Nobody adds to them before the caller commits."""
    session.execute(_QUOTA_LOCK, {"owner": owner_id})
    return int(session.scalar(_STORED, {"owner": owner_id}) or 0)
