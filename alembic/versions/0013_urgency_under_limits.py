"""Orders those that wait for a concurrency slot by priority."""

import sqlalchemy as sa

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("limit_queue", sa.Column("priority", sa.SmallInteger(), nullable=False, server_default="5"))
    op.create_index("limit_queue_next_idx", "limit_queue", ["owner_id", "key", sa.text("priority DESC"), "id"])


def downgrade() -> None:
    op.drop_index("limit_queue_next_idx", "limit_queue")
    op.drop_column("limit_queue", "priority")
