"""Adds schedules, and the times at which they were due."""

import sqlalchemy as sa

from alembic import op

revision = "0030"
down_revision = "0029"

_NOW = sa.text("now()")


def _time(name: str, **more) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), **more)


def upgrade() -> None:
    op.create_table(
        "schedules",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("graph_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer()),
        sa.Column("preset_id", sa.Uuid()),
        sa.Column("given", sa.Text(), nullable=False),
        sa.Column("due_input", sa.Text()),
        sa.Column("cron", sa.Text()),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("every", sa.Interval()),
        _time("at"),
        _time("start_at", nullable=False),
        sa.Column("overlap", sa.Text(), nullable=False),
        sa.Column("catch_up", sa.Text(), nullable=False),
        sa.Column("jitter", sa.Interval(), server_default=sa.text("'0'"), nullable=False),
        _time("due_at"),
        _time("fire_at"),
        _time("late_until"),
        sa.Column("refusals", sa.Integer(), server_default="0", nullable=False),
        _time("paused_at"),
        sa.Column("pause_reason", sa.Text()),
        _time("created_at", server_default=_NOW, nullable=False),
        _time("updated_at", server_default=_NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name="schedules_pk"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="schedules_owner_id_fk", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["graph_id"], ["graphs.id"], name="schedules_graph_id_fk", ondelete="CASCADE"),
        sa.CheckConstraint("num_nonnulls(cron, every, at) = 1", name="one_timing"),
        sa.CheckConstraint("(due_at IS NULL) = (fire_at IS NULL)", name="due_is_fired"),
        sa.CheckConstraint("(paused_at IS NULL) = (pause_reason IS NULL)", name="paused_for_a_reason"),
        sa.CheckConstraint(
            "overlap IN ('allow', 'cancel_previous', 'queue', 'skip')", name="overlap_known"
        ),
        sa.CheckConstraint("catch_up IN ('all', 'last', 'none')", name="catch_up_known"),
    )
    op.create_index("schedules_owner_idx", "schedules", ["owner_id", sa.text("id DESC")])
    op.create_index("schedules_graph_id_idx", "schedules", ["graph_id"])
    op.create_index(
        "schedules_fire_idx",
        "schedules",
        ["fire_at"],
        postgresql_where=sa.text("fire_at IS NOT NULL AND paused_at IS NULL"),
    )
    op.create_table(
        "occurrences",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("schedule_id", sa.Uuid(), nullable=False),
        _time("due_at", nullable=False),
        _time("through"),
        sa.Column("count", sa.Integer()),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("overlap", sa.Text()),
        sa.Column("run_id", sa.Uuid()),
        sa.Column("reason", sa.Text()),
        _time("fired_at"),
        _time("created_at", server_default=_NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name="occurrences_pk"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="occurrences_owner_id_fk", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["schedule_id"], ["schedules.id"], name="occurrences_schedule_id_fk", ondelete="CASCADE"
        ),
        sa.CheckConstraint(
            "state IN ('failed', 'missed', 'pending', 'run', 'skipped')", name="state_known"
        ),
        sa.CheckConstraint("origin IN ('backfill', 'run_now', 'schedule')", name="origin_known"),
        sa.CheckConstraint("(state = 'run') = (run_id IS NOT NULL)", name="run_has_run"),
        sa.CheckConstraint("(state = 'missed') = (through IS NOT NULL)", name="missed_has_end"),
    )
    op.create_index(
        "occurrences_due_key",
        "occurrences",
        ["schedule_id", "due_at"],
        unique=True,
        postgresql_where=sa.text("state <> 'missed'"),
    )
    op.create_index("occurrences_schedule_idx", "occurrences", ["schedule_id", sa.text("id DESC")])
    op.create_index("occurrences_owner_idx", "occurrences", ["owner_id"])
    op.create_index(
        "occurrences_pending_idx",
        "occurrences",
        ["schedule_id", "due_at"],
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.add_column("runs", sa.Column("schedule_id", sa.Uuid()))
    op.create_index(
        "runs_schedule_idx",
        "runs",
        ["schedule_id", "id"],
        postgresql_where=sa.text("ended_at IS NULL AND schedule_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_column("runs", "schedule_id")
    op.drop_table("occurrences")
    op.drop_table("schedules")
