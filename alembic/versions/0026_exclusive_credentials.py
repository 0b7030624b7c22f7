"""Adds credentials that one node execution at a time may use, and lets a node execution hold slots of several limits."""

import sqlalchemy as sa

from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.add_column("credentials", sa.Column("exclusive", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_index("credentials_exclusive_idx", "credentials", ["owner_id"], postgresql_where=sa.text("exclusive"))
    op.drop_constraint("limit_slots_pk", "limit_slots")
    op.create_primary_key("limit_slots_pk", "limit_slots", ["run_id", "node", "idx", "owner_id", "key"])


def downgrade() -> None:
    op.execute("DELETE FROM limit_slots WHERE key LIKE 'credential:%'")
    op.drop_constraint("limit_slots_pk", "limit_slots")
    op.create_primary_key("limit_slots_pk", "limit_slots", ["run_id", "node", "idx"])
    op.drop_index("credentials_exclusive_idx", "credentials")
    op.drop_column("credentials", "exclusive")
