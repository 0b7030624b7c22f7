"""Lets users be told that a channel of theirs was switched off."""

from alembic import op

revision = "0035"
down_revision = "0034"

BEFORE = (
    "kind IN ('block_failing', 'credential_needs_you', 'daily_summary', 'dead_letters', 'low_balance', "
    "'manual_intervention', 'monthly_summary', 'review_wanted', 'run_failed', 'run_finished', 'schedule_paused', "
    "'system_alert', 'trigger_paused', 'weekly_summary', 'zero_balance')"
)
AFTER = BEFORE.replace("'credential_needs_you'", "'channel_off', 'credential_needs_you'")


def upgrade() -> None:
    op.drop_constraint(op.f("notifications_kind_known"), "notifications")
    op.create_check_constraint(op.f("notifications_kind_known"), "notifications", AFTER)


def downgrade() -> None:
    op.execute("DELETE FROM notifications WHERE kind = 'channel_off'")
    op.drop_constraint(op.f("notifications_kind_known"), "notifications")
    op.create_check_constraint(op.f("notifications_kind_known"), "notifications", BEFORE)
