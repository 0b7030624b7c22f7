"""Records which lanes workers serve, so that work in an unserved lane is reported."""

import sqlalchemy as sa

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "lanes",
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("served_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("wanted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("lane", name="lanes_pk"),
    )


def downgrade() -> None:
    op.drop_table("lanes")
