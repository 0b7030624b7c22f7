"""Gives users a role and keys scopes and an expiry. The user of the first key becomes an admin."""

import sqlalchemy as sa

from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.add_column("users", sa.Column("role", sa.Text(), nullable=False, server_default="member"))
    op.add_column("users", sa.Column("suspended_at", sa.DateTime(timezone=True)))
    op.create_check_constraint(op.f("users_role_known"), "users", "role IN ('admin', 'member', 'viewer')")
    op.add_column("api_keys", sa.Column("scopes", sa.ARRAY(sa.Text())))
    op.add_column("api_keys", sa.Column("expires_at", sa.DateTime(timezone=True)))
    op.add_column("api_keys", sa.Column("suspended_at", sa.DateTime(timezone=True)))
    op.execute(
        "UPDATE users SET role = 'admin' WHERE id = (SELECT owner_id FROM api_keys ORDER BY created_at, id LIMIT 1)"
    )


def downgrade() -> None:
    for column in ("suspended_at", "expires_at", "scopes"):
        op.drop_column("api_keys", column)
    op.drop_constraint(op.f("users_role_known"), "users")
    for column in ("suspended_at", "role"):
        op.drop_column("users", column)
