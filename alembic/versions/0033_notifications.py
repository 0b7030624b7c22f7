"""Adds notifications, the channels of users, what is to be delivered, and what users prefer."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0033"
down_revision = "0032"

KINDS = (
    "kind IN ('block_failing', 'credential_needs_you', 'daily_summary', 'dead_letters', 'low_balance', "
    "'manual_intervention', 'monthly_summary', 'review_wanted', 'run_failed', 'run_finished', 'schedule_paused', "
    "'system_alert', 'trigger_paused', 'weekly_summary', 'zero_balance')"
)


def moment(name: str, *, null: bool = True, now: bool = False) -> sa.Column:
    default = sa.text("agentflow_now()") if now else None
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=null)


def upgrade() -> None:
    op.create_table(
        "notifications",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column(
            "transaction",
            sa.BigInteger(),
            server_default=sa.text("pg_current_xact_id()::text::bigint"),
            nullable=False,
        ),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        moment("created_at", null=False, now=True),
        moment("read_at"),
        moment("plan_at"),
        sa.PrimaryKeyConstraint("id", name="notifications_pk"),
        sa.CheckConstraint(KINDS, name="kind_known"),
    )
    op.create_index("notifications_cause_key", "notifications", ["owner_id", "cause"], unique=True)
    op.create_index("notifications_told_idx", "notifications", ["owner_id", "transaction", "id"])
    op.create_index("notifications_owner_idx", "notifications", ["owner_id", sa.text("id DESC")])
    op.create_index(
        "notifications_unread_idx",
        "notifications",
        ["owner_id", sa.text("id DESC")],
        postgresql_where=sa.text("read_at IS NULL"),
    )
    op.create_index(
        "notifications_plan_idx", "notifications", ["plan_at"], postgresql_where=sa.text("plan_at IS NOT NULL")
    )
    op.create_table(
        "notification_channels",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("details", postgresql.JSONB(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        moment("created_at", null=False, now=True),
        moment("next_at"),
        sa.Column("token", sa.Uuid()),
        moment("lease_until"),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        moment("open_at"),
        sa.Column("error", sa.Text()),
        moment("sent_at"),
        sa.Column("cap_day", sa.Date()),
        sa.Column("cap_used", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name="notification_channels_pk"),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name="notification_channels_owner_id_fk", ondelete="CASCADE"
        ),
        sa.CheckConstraint("kind IN ('apprise', 'email', 'webhook')", name="kind_known"),
        sa.CheckConstraint("(token IS NULL) = (lease_until IS NULL)", name="lease_has_end"),
    )
    op.create_index("notification_channels_owner_idx", "notification_channels", ["owner_id", sa.text("id DESC")])
    op.create_index(
        "notification_channels_next_idx",
        "notification_channels",
        ["next_at"],
        postgresql_where=sa.text("next_at IS NOT NULL"),
    )
    op.create_index(
        "notification_channels_leased_idx",
        "notification_channels",
        ["host"],
        postgresql_where=sa.text("token IS NOT NULL"),
    )
    op.create_table(
        "notification_deliveries",
        sa.Column("notification_id", sa.Uuid(), nullable=False),
        sa.Column("channel_id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="WAITING", nullable=False),
        sa.Column("batch", sa.Text()),
        moment("planned_for", null=False),
        moment("due_at", null=False),
        moment("give_up_at", null=False),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("token", sa.Uuid()),
        moment("sent_at"),
        moment("dead_at"),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("notification_id", "channel_id", name="notification_deliveries_pk"),
        sa.ForeignKeyConstraint(
            ["notification_id"],
            ["notifications.id"],
            name="notification_deliveries_notification_id_fk",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["channel_id"],
            ["notification_channels.id"],
            name="notification_deliveries_channel_id_fk",
            ondelete="CASCADE",
        ),
        sa.CheckConstraint(
            "state IN ('DEAD', 'DROPPED', 'SENDING', 'SENT', 'WAITING')", name="state_known"
        ),
        sa.CheckConstraint(
            "(state = 'SENDING') = (token IS NOT NULL)", name="sending_has_token"
        ),
        sa.CheckConstraint("(state = 'SENT') = (sent_at IS NOT NULL)", name="sent_has_time"),
        sa.CheckConstraint("(state = 'DEAD') = (dead_at IS NOT NULL)", name="dead_has_time"),
    )
    op.create_index(
        "notification_deliveries_due_idx",
        "notification_deliveries",
        ["channel_id", "due_at"],
        postgresql_where=sa.text("state IN ('WAITING', 'SENDING')"),
    )
    op.create_index(
        "notification_deliveries_kind_idx",
        "notification_deliveries",
        ["channel_id", "kind", sa.text("planned_for DESC")],
    )
    op.create_index("notification_deliveries_owner_idx", "notification_deliveries", ["owner_id"])
    op.create_index(
        "notification_deliveries_dead_idx",
        "notification_deliveries",
        [sa.text("notification_id DESC"), "channel_id"],
        postgresql_where=sa.text("state = 'DEAD'"),
    )
    op.create_table(
        "notification_settings",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("quiet_from", sa.SmallInteger()),
        sa.Column("quiet_until", sa.SmallInteger()),
        sa.Column("daily_cap", sa.Integer()),
        sa.Column("types", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("wants_finished", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        moment("summary_at"),
        sa.PrimaryKeyConstraint("owner_id", name="notification_settings_pk"),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name="notification_settings_owner_id_fk", ondelete="CASCADE"
        ),
        sa.CheckConstraint(
            "(quiet_from IS NULL) = (quiet_until IS NULL)", name="quiet_has_ends"
        ),
        sa.CheckConstraint("quiet_from <> quiet_until", name="quiet_ends_differ"),
        sa.CheckConstraint("daily_cap > 0", name="cap_positive"),
    )
    op.create_index(
        "notification_settings_summary_idx",
        "notification_settings",
        ["summary_at"],
        postgresql_where=sa.text("summary_at IS NOT NULL"),
    )
    op.create_index(
        "credentials_expires_idx", "credentials", ["expires_at"], postgresql_where=sa.text("expires_at IS NOT NULL")
    )


def downgrade() -> None:
    op.drop_index("credentials_expires_idx", "credentials")
    for table in ("settings", "deliveries", "channels"):
        op.drop_table(f"notification_{table}")
    op.drop_table("notifications")
