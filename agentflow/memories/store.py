"""Stores what blocks keep: memories between runs, and cached outputs that replace a run of a block for a while."""

from uuid import UUID

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from agentflow.memories.tables import CachedOutputs, Memory


def get(session: Session, owner_id: UUID, key: str) -> str | None:
    """The value as JSON text."""
    return session.scalar(select(Memory.value).where(Memory.owner_id == owner_id, Memory.key == key))


def put(session: Session, owner_id: UUID, key: str, value: str) -> None:
    """Keep `value`, JSON text."""
    added = insert(Memory).values(owner_id=owner_id, key=key, value=value)
    session.execute(
        added.on_conflict_do_update(
            index_elements=["owner_id", "key"], set_={"value": value, "updated_at": func.agentflow_now()}
        )
    )


def remove(session: Session, owner_id: UUID, key: str) -> None:
    """Forget it."""
    session.execute(delete(Memory).where(Memory.owner_id == owner_id, Memory.key == key))


def cached(session: Session, owner_id: UUID, digest: str) -> str | None:
    """Outputs that are good still, as JSON text."""
    return session.scalar(
        select(CachedOutputs.outputs).where(
            CachedOutputs.owner_id == owner_id,
            CachedOutputs.digest == digest,
            CachedOutputs.expires_at > func.agentflow_now(),
        )
    )


def cache(session: Session, owner_id: UUID, digest: str, outputs: str, seconds: float) -> None:
    """Keep outputs for so long; and drop some that have expired, so that the table does not grow for ever."""
    session.execute(
        text(
            "DELETE FROM cached_outputs WHERE (owner_id, digest) IN (SELECT owner_id, digest FROM cached_outputs "
            "WHERE expires_at < agentflow_now() LIMIT 10 FOR UPDATE SKIP LOCKED)"
        )
    )
    session.execute(
        text(
            "INSERT INTO cached_outputs (owner_id, digest, outputs, expires_at) "
            "VALUES (:owner, :digest, :outputs, agentflow_now() + make_interval(secs => :seconds)) "
            "ON CONFLICT (owner_id, digest) DO UPDATE SET outputs = excluded.outputs, expires_at = excluded.expires_at"
        ),
        {"owner": owner_id, "digest": digest, "outputs": outputs, "seconds": seconds},
    )
