"""Marks a run while its child runs are being paused or resumed like it."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.add_column("runs", sa.Column("passing_down_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "runs_passing_down_idx",
        "runs",
        ["passing_down_at"],
        postgresql_where=sa.text("passing_down_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_column("runs", "passing_down_at")
