"""Records who waits for which place in a rate limit, so that those behind one who leaves can move up."""

import sqlalchemy as sa

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "rate_places",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("node", sa.Integer(), nullable=False),
        sa.Column("idx", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "node", "idx", name="rate_places_pk"),
    )
    op.create_index("rate_places_key_idx", "rate_places", ["owner_id", "key", "at"])


def downgrade() -> None:
    op.drop_table("rate_places")
