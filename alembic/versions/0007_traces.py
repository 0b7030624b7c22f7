"""Adds the traceback of a node execution that failed because of a bug in its block."""

import sqlalchemy as sa

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("node_executions", sa.Column("trace", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("node_executions", "trace")
