"""Marks a run that must be stopped, in the transaction that causes the stop."""

import sqlalchemy as sa

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("runs", sa.Column("stop_due", sa.Text(), nullable=True))
    op.create_index(
        "runs_stop_due_idx", "runs", ["id"], postgresql_where=sa.text("ended_at IS NULL AND stop_due IS NOT NULL")
    )


def downgrade() -> None:
    op.drop_index("runs_stop_due_idx", "runs")
    op.drop_column("runs", "stop_due")
