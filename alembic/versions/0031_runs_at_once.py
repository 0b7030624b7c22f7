"""Adds how many runs of a graph may be open at the same time, and until when a run must have begun."""

import sqlalchemy as sa

from alembic import op

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    op.add_column("runs", sa.Column("run_key", sa.Text()))
    op.add_column("runs", sa.Column("run_key_limit", sa.Integer()))
    op.add_column("runs", sa.Column("start_by", sa.DateTime(timezone=True)))
    op.create_index(
        "runs_key_idx",
        "runs",
        ["owner_id", "run_key"],
        postgresql_where=sa.text("ended_at IS NULL AND run_key IS NOT NULL"),
    )
    op.create_index(
        "runs_start_by_idx",
        "runs",
        ["start_by"],
        postgresql_where=sa.text("ended_at IS NULL AND started_at IS NULL AND start_by IS NOT NULL"),
    )


def downgrade() -> None:
    for name in ("run_key", "run_key_limit", "start_by"):
        op.drop_column("runs", name)
