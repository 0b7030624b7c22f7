"""Excludes paused runs from the active runs of their owner."""

import sqlalchemy as sa

from alembic import op

revision = "0012"
down_revision = "0011"

_FORMER = "ended_at IS NULL AND admitted_at IS NOT NULL AND parent_run_id IS NULL AND status <> 'WAITING'"


def upgrade() -> None:
    _index(f"{_FORMER} AND paused_at IS NULL")


def downgrade() -> None:
    _index(_FORMER)


def _index(active: str) -> None:
    op.drop_index("runs_active_idx", "runs")
    op.create_index("runs_active_idx", "runs", ["owner_id"], postgresql_where=sa.text(active))
