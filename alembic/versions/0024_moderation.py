"""Adds when moderation is to examine a run."""

import sqlalchemy as sa

from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    op.add_column("runs", sa.Column("examine_at", sa.DateTime(timezone=True)))
    op.create_index(
        "runs_examine_idx",
        "runs",
        ["examine_at"],
        postgresql_where=sa.text("ended_at IS NULL AND examine_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_column("runs", "examine_at")
