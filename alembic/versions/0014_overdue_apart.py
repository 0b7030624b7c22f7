"""Narrows the recovery index, so that PostgreSQL never uses it to find the open node executions of one run."""

import sqlalchemy as sa

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    _replace("open AND check_at IS NOT NULL")


def downgrade() -> None:
    _replace("open")


def _replace(where: str) -> None:
    op.drop_index("node_executions_check_idx", "node_executions")
    op.create_index("node_executions_check_idx", "node_executions", ["check_at"], postgresql_where=sa.text(where))
