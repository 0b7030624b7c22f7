"""Stores sub-graphs as separate graphs, and allows graphs whose blocks are missing."""

import sqlalchemy as sa

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("graphs", sa.Column("part_of", sa.Uuid(), nullable=True))
    op.add_column("graphs", sa.Column("valid", sa.Boolean(), server_default=sa.text("true"), nullable=False))
    op.create_foreign_key("graphs_part_of_fk", "graphs", "graphs", ["part_of"], ["id"], ondelete="CASCADE")
    op.create_index("graphs_part_of_idx", "graphs", ["part_of"], postgresql_where=sa.text("part_of IS NOT NULL"))
    op.alter_column("graph_versions", "plan", nullable=True)


def downgrade() -> None:
    raise NotImplementedError("graphs without a plan have no form before this: restore a backup instead")
