"""Adds the time zone of a user."""

import sqlalchemy as sa

from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    op.add_column("users", sa.Column("time_zone", sa.Text()))


def downgrade() -> None:
    op.drop_column("users", "time_zone")
