"""How long a node execution has waited is known, so that it can be told from how long it worked."""

import sqlalchemy as sa

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("waits", sa.Column("seconds", sa.Double(), server_default=sa.text("0"), nullable=False))


def downgrade() -> None:
    op.drop_column("waits", "seconds")
