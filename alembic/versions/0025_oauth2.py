"""Adds what OAuth2 needs: users on their way to a provider, and when tokens are renewed, by whom."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.add_column("credentials", sa.Column("generation", sa.Integer(), server_default=sa.text("0"), nullable=False))
    for name in ("token_expires_at", "renew_at", "renewing_until"):
        op.add_column("credentials", sa.Column(name, sa.DateTime(timezone=True)))
    op.add_column("credentials", sa.Column("renewing", sa.Uuid()))
    op.create_table(
        "oauth2_logins",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("scopes", JSONB(), nullable=False),
        sa.Column("title", sa.Text()),
        sa.Column("credential_id", sa.Uuid()),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="oauth2_logins_pk"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="oauth2_logins_owner_id_fk", ondelete="CASCADE"),
    )
    for column in ("owner_id", "expires_at"):
        op.create_index(f"oauth2_logins_{column}_idx", "oauth2_logins", [column])


def downgrade() -> None:
    op.drop_table("oauth2_logins")
    for name in ("renewing", "renewing_until", "renew_at", "token_expires_at", "generation"):
        op.drop_column("credentials", name)
