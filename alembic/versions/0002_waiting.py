"""Adds waits, holds, limits, caches, memories, costs and admission. See `agentflow/storage/tables.py`."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0002"
down_revision = "0001"

SOUND = """
CREATE OR REPLACE FUNCTION node_execution_is_sound(
    status text, open boolean, ended_at timestamptz, token uuid, lease_until timestamptz,
    have int, need int, reason text, hold text
) RETURNS boolean IMMUTABLE PARALLEL SAFE LANGUAGE plpgsql AS $$
BEGIN
    IF have > need THEN
        RETURN false;
    ELSIF status IN ('CANCELLED', 'COMPLETED', 'FAILED') THEN
        RETURN ended_at IS NOT NULL AND (status <> 'FAILED' OR reason IS NOT NULL)
            AND (hold IS NULL OR (hold = 'unrouted' AND NOT open));
    ELSIF status IN ('QUEUED', 'RUNNING', 'WAITING') THEN
        RETURN open AND ended_at IS NULL AND CASE status
            WHEN 'RUNNING' THEN hold IS NULL AND token IS NOT NULL AND lease_until IS NOT NULL
            WHEN 'WAITING' THEN hold IS NOT DISTINCT FROM 'waiting'
            ELSE hold IS NULL OR hold IN ('admission', 'limit', 'paused', 'rate', 'window') END;
    END IF;
    RETURN status = 'INCOMPLETE' AND NOT open AND ended_at IS NULL AND have < need AND hold IS NULL;
END $$
"""


def upgrade() -> None:
    _node_executions()
    _runs()
    _waiting()
    _limits()
    _kept()


def _node_executions() -> None:
    for column in (
        sa.Column("hold", sa.Text(), nullable=True),
        sa.Column("resumed_from", sa.Integer(), server_default="0", nullable=False),
        sa.Column("waited", sa.Integer(), server_default="0", nullable=False),
        sa.Column("stats", postgresql.JSONB(), nullable=True),
    ):
        op.add_column("node_executions", column)
    op.execute("ALTER TABLE node_executions DROP CONSTRAINT node_executions_sound")
    op.execute(
        "DROP FUNCTION node_execution_is_sound(text, boolean, timestamptz, uuid, timestamptz, integer, integer, text)"
    )
    op.execute(SOUND)
    op.execute(
        "ALTER TABLE node_executions ADD CONSTRAINT node_executions_sound CHECK "
        "(node_execution_is_sound(status, open, ended_at, token, lease_until, have, need, reason, hold))"
    )
    op.drop_index("node_executions_open_idx", table_name="node_executions")
    op.create_index(
        "node_executions_open_idx",
        "node_executions",
        ["run_id"],
        postgresql_where=sa.text("open AND hold IS NULL"),
        postgresql_with={"deduplicate_items": "off"},
    )
    op.create_index(
        "node_executions_held_idx",
        "node_executions",
        ["run_id", "hold", "node", "idx"],
        postgresql_where=sa.text("hold IS NOT NULL"),
    )


def _runs() -> None:
    for column in (
        sa.Column("parent_call", sa.Text(), nullable=True),
        sa.Column("forked_from", sa.Uuid(), nullable=True),
        sa.Column("budget", sa.BigInteger(), nullable=True),
        sa.Column("node_limit", sa.Integer(), nullable=True),
        sa.Column("admitted_at", sa.DateTime(timezone=True), nullable=True),
    ):
        op.add_column("runs", column)
    op.execute("UPDATE runs SET admitted_at = created_at")
    op.drop_constraint("runs_parent_key", "runs")
    op.create_unique_constraint(
        "runs_parent_key", "runs", ["parent_run_id", "parent_node", "parent_idx", "parent_call"]
    )
    op.create_index("runs_root_idx", "runs", ["root_id"], postgresql_where=sa.text("parent_run_id IS NOT NULL"))
    op.create_index("runs_children_idx", "runs", ["parent_run_id"], postgresql_where=sa.text("ended_at IS NULL"))
    op.create_index(
        "runs_active_idx",
        "runs",
        ["owner_id"],
        postgresql_where=sa.text(
            "ended_at IS NULL AND admitted_at IS NOT NULL AND parent_run_id IS NULL AND status <> 'WAITING'"
        ),
    )
    op.create_index(
        "runs_unadmitted_idx",
        "runs",
        ["owner_id", "id"],
        postgresql_where=sa.text("ended_at IS NULL AND admitted_at IS NULL"),
    )


def _execution_key() -> list[sa.Column]:
    return [
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("node", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("idx", sa.Integer(), autoincrement=False, nullable=False),
    ]


def _moment(name: str) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("agentflow_now()"), nullable=False)


def _waiting() -> None:
    op.create_table(
        "waits",
        *_execution_key(),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("timed_out", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("nudged", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        _moment("since"),
        sa.PrimaryKeyConstraint("run_id", "node", "idx", name="waits_pk"),
    )
    op.create_index(
        "waits_open_idx", "waits", ["run_id", "kind", "key", "since"], postgresql_where=sa.text("open")
    )
    op.create_table(
        "signals",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("taken_by_node", sa.Integer(), nullable=True),
        sa.Column("taken_by_idx", sa.Integer(), nullable=True),
        _moment("at"),
        sa.PrimaryKeyConstraint("id", name="signals_pk"),
    )
    op.create_index(
        "signals_untaken_idx", "signals", ["run_id", "name", "id"], postgresql_where=sa.text("taken_by_node IS NULL")
    )
    op.create_table(
        "reviews",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("node", sa.Integer(), nullable=False),
        sa.Column("idx", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("editable", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("decided", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        _moment("created_at"),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('APPROVED', 'CANCELLED', 'EXPIRED', 'REJECTED', 'WAITING')", name="status_known"
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="reviews_owner_id_fk"),
        sa.PrimaryKeyConstraint("id", name="reviews_pk"),
    )
    op.create_index("reviews_owner_idx", "reviews", ["owner_id", "status", sa.text("id DESC")])
    op.create_index(
        "reviews_waiting_idx", "reviews", ["run_id", "node"], postgresql_where=sa.text("status = 'WAITING'")
    )
    op.create_table(
        "review_policies",
        *_execution_key()[:2],
        sa.PrimaryKeyConstraint("run_id", "node", name="review_policies_pk"),
    )


def _limits() -> None:
    op.create_table(
        "limits",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("owner_id", "key", name="limits_pk"),
    )
    op.create_table(
        "limit_slots",
        *_execution_key(),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        _moment("since"),
        sa.PrimaryKeyConstraint("run_id", "node", "idx", name="limit_slots_pk"),
    )
    op.create_index("limit_slots_key_idx", "limit_slots", ["owner_id", "key"])
    op.create_table(
        "limit_queue",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("node", sa.Integer(), nullable=False),
        sa.Column("idx", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "key", "id", name="limit_queue_pk"),
        sa.UniqueConstraint("run_id", "node", "idx", name="limit_queue_execution_key"),
    )


def _kept() -> None:
    op.create_table(
        "cached_outputs",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("outputs", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "digest", name="cached_outputs_pk"),
    )
    op.create_index("cached_outputs_expires_idx", "cached_outputs", ["expires_at"])
    op.create_table(
        "memories",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        _moment("updated_at"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="memories_owner_id_fk", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("owner_id", "key", name="memories_pk"),
    )
    op.create_table(
        "run_costs",
        sa.Column("root_id", sa.Uuid(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("root_id", name="run_costs_pk"),
    )


def downgrade() -> None:
    raise NotImplementedError("waiting node executions have no form before this: restore a backup instead")
