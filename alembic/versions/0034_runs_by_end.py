"""Adds an index by which live updates find an owner's runs that go on, or have just ended, among all that there were."""

from alembic import op

revision = "0034"
down_revision = "0033"


def upgrade() -> None:
    op.create_index("runs_owner_ended_idx", "runs", ["owner_id", "ended_at"])


def downgrade() -> None:
    op.drop_index("runs_owner_ended_idx", "runs")
