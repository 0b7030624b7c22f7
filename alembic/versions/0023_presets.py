"""Adds presets."""

import sqlalchemy as sa

from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.create_table(
        "presets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("graph_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer()),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("given", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="presets_pk"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="presets_owner_id_fk", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["graph_id"], ["graphs.id"], name="presets_graph_id_fk", ondelete="CASCADE"),
    )
    op.create_index("presets_owner_idx", "presets", ["owner_id", sa.text("id DESC")])
    op.create_index("presets_graph_idx", "presets", ["graph_id", sa.text("id DESC")])


def downgrade() -> None:
    op.drop_table("presets")
