"""Lets people sign in, and follows a user's suspension and deletion through all that is theirs."""

import sqlalchemy as sa

from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.add_column("users", sa.Column("password_hash", sa.Text()))
    op.add_column("users", sa.Column("sign_in_name", sa.Text()))
    op.add_column("users", sa.Column("deleting_at", sa.DateTime(timezone=True)))
    op.add_column("users", sa.Column("follow_at", sa.DateTime(timezone=True)))
    op.create_unique_constraint(op.f("users_sign_in_name_key"), "users", ["sign_in_name"])
    op.create_check_constraint(
        op.f("users_password_has_name"), "users", "(password_hash IS NULL) = (sign_in_name IS NULL)"
    )
    op.create_index("users_follow_idx", "users", ["follow_at"], postgresql_where=sa.text("follow_at IS NOT NULL"))
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="sessions_pk"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="sessions_user_id_fk", ondelete="CASCADE"),
        sa.UniqueConstraint("digest", name="sessions_digest_key"),
    )
    op.create_index("sessions_user_idx", "sessions", ["user_id", sa.text("id DESC")])
    op.create_table(
        "identities",
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "subject", name="identities_pk"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="identities_user_id_fk", ondelete="CASCADE"),
    )
    op.create_index("identities_user_id_idx", "identities", ["user_id"])
    op.create_table(
        "oidc_attempts",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("verifier", sa.Text(), nullable=False),
        sa.Column("page", sa.Text()),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="oidc_attempts_pk"),
    )
    op.create_index("oidc_attempts_expires_at_idx", "oidc_attempts", ["expires_at"])
    op.add_column("runs", sa.Column("suspended", sa.Boolean(), nullable=False, server_default=sa.text("false")))
    op.create_index("runs_suspended_idx", "runs", ["owner_id"], postgresql_where=sa.text("suspended"))


def downgrade() -> None:
    op.drop_index("runs_suspended_idx", "runs")
    op.drop_column("runs", "suspended")
    for table in ("oidc_attempts", "identities", "sessions"):
        op.drop_table(table)
    op.drop_index("users_follow_idx", "users")
    op.drop_constraint(op.f("users_password_has_name"), "users")
    op.drop_constraint(op.f("users_sign_in_name_key"), "users")
    for column in ("follow_at", "deleting_at", "sign_in_name", "password_hash"):
        op.drop_column("users", column)
