"""Keeps of a lane only when it was served: what is wanted in it, the node executions say.

In one step, because no release has had the column.
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.execute("DELETE FROM lanes WHERE served_at IS NULL")
    op.alter_column("lanes", "served_at", nullable=False)
    op.drop_column("lanes", "wanted_at")


def downgrade() -> None:
    op.add_column("lanes", sa.Column("wanted_at", sa.DateTime(timezone=True), nullable=True))
    op.alter_column("lanes", "served_at", nullable=True)
