"""Adds since when an owner is low on credits."""

import sqlalchemy as sa

from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    op.add_column("credit_balances", sa.Column("low_since", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("credit_balances", "low_since")
