"""Counts the bytes that a user stores."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

_STORED = text(
    "SELECT (SELECT coalesce(sum(pg_column_size(v.document) + coalesce(pg_column_size(v.plan), 0)), 0) "
    "FROM graph_versions v JOIN graphs g ON g.id = v.graph_id "
    "WHERE g.owner_id = :owner AND g.deleted_at IS NULL AND NOT g.inline) "
    "+ (SELECT coalesce(sum(pg_column_size(m.value)), 0) FROM memories m WHERE m.owner_id = :owner)"
)
_LOCK = text("SELECT pg_advisory_xact_lock(uuid_hash(:owner), -3)")


def stored_bytes(session: Session, owner_id: UUID) -> int:
    """Bytes of the owner's graphs and memories, as they are kept. Nobody adds to them before the caller commits."""
    session.execute(_LOCK, {"owner": owner_id})
    return int(session.scalar(_STORED, {"owner": owner_id}) or 0)
