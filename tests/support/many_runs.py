"""Many runs of one owner at once, and how many rows of them a statement reads."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from agentflow.storage.tables import Run


def copies(session: Session, run_id: UUID, count: int) -> None:
    """Add runs that are like this one, without what belongs to it."""
    columns = ", ".join(name for name in Run.__table__.columns.keys() if name not in ("id", "root_id"))  # noqa: SIM118
    ids = "SELECT gen_random_uuid() AS id FROM generate_series(1, :count)"
    session.execute(
        text(
            f"INSERT INTO runs (id, root_id, {columns}) "
            f"SELECT one.id, one.id, {columns} FROM runs, ({ids}) one WHERE runs.id = :run"
        ),
        {"run": run_id, "count": count},
    )


def rows_read(session: Session) -> int:
    """How many rows of runs this connection has read and not reported yet. In a transaction it reports nothing."""
    return session.scalars(
        text("SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'runs'")
    ).one()
