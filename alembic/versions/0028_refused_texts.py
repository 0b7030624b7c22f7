"""Adds what moderation refused, where the operator keeps it."""

import sqlalchemy as sa

from alembic import op

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    op.create_table(
        "refused_texts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("node_id", sa.Text(), server_default="", nullable=False),
        sa.Column("categories", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="refused_texts_pk"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="refused_texts_owner_id_fk", ondelete="CASCADE"),
    )
    op.create_index("refused_texts_owner_idx", "refused_texts", ["owner_id", sa.text("id DESC")])
    op.create_index("refused_texts_run_key", "refused_texts", ["run_id", "node_id"], unique=True)


def downgrade() -> None:
    op.drop_table("refused_texts")
