"""Records how long a node execution waited, to tell waiting time from working time."""

import sqlalchemy as sa

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("waits", sa.Column("seconds", sa.Double(), server_default=sa.text("0"), nullable=False))


def downgrade() -> None:
    op.drop_column("waits", "seconds")
