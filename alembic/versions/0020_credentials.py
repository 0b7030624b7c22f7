"""Adds the credentials of users, whose secrets are stored encrypted."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.create_table(
        "credentials",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("details", JSONB(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="valid", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True)),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("kind IN ('api_key', 'host_scoped', 'oauth2', 'user_password')", name="kind_known"),
        sa.CheckConstraint("state IN ('needs_reauthorisation', 'valid')", name="state_known"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="credentials_owner_id_fk", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="credentials_pk"),
    )
    op.create_index("credentials_owner_idx", "credentials", ["owner_id", sa.text("id DESC")])


def downgrade() -> None:
    op.drop_table("credentials")
