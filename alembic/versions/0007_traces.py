"""A node execution that failed over a bug of its block may keep the traceback."""

import sqlalchemy as sa

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("node_executions", sa.Column("trace", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("node_executions", "trace")
