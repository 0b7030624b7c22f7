"""Creates the first schema: users, graphs, runs and their records. See `agentflow/storage/tables.py`."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0001"
down_revision = None

BUSY = {
    "autovacuum_vacuum_scale_factor": 0.02,
    "autovacuum_analyze_scale_factor": 0.05,
    "autovacuum_vacuum_insert_scale_factor": 0.05,
    "autovacuum_vacuum_cost_delay": 1,
}

# Column defaults need the clock before the other functions are installed (sql/01_clock_and_gate.sql).
CLOCK = """
CREATE OR REPLACE FUNCTION agentflow_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
    SELECT clock_timestamp() + coalesce(nullif(current_setting('agentflow.clock_offset', true), ''), '0')::interval
$$
"""

SOUND = """
CREATE OR REPLACE FUNCTION node_execution_is_sound(
    status text, open boolean, ended_at timestamptz, token uuid, lease_until timestamptz,
    have int, need int, reason text
) RETURNS boolean IMMUTABLE PARALLEL SAFE LANGUAGE plpgsql AS $$
BEGIN
    IF have > need THEN
        RETURN false;
    ELSIF status IN ('CANCELLED', 'COMPLETED', 'FAILED') THEN
        RETURN ended_at IS NOT NULL AND (status <> 'FAILED' OR reason IS NOT NULL);
    ELSIF status IN ('QUEUED', 'RUNNING', 'WAITING') THEN
        RETURN open AND ended_at IS NULL
            AND (status <> 'RUNNING' OR (token IS NOT NULL AND lease_until IS NOT NULL));
    END IF;
    RETURN status = 'INCOMPLETE' AND NOT open AND ended_at IS NULL AND have < need;
END $$
"""


def upgrade() -> None:
    op.execute(CLOCK)
    op.execute(SOUND)
    op.create_table(
        "deliveries",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("node", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("pin", sa.Text(), nullable=False),
        sa.Column("idx", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("source_node", sa.Integer(), nullable=False),
        sa.Column("source_idx", sa.Integer(), nullable=False),
        sa.Column("source_ordinal", sa.Integer(), nullable=False),
        sa.Column("source_part", sa.SmallInteger(), nullable=False),
        sa.Column("filled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "node", "pin", "idx", name="deliveries_pk"),
        postgresql_with=BUSY,
    )
    op.create_table(
        "engine_functions",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("installed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="engine_functions_pk"),
    )
    op.create_table(
        "events",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "transaction", sa.BigInteger(), server_default=sa.text("pg_current_xact_id()::text::bigint"), nullable=False
        ),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("agentflow_now()"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("node", sa.Integer(), nullable=True),
        sa.Column("idx", sa.Integer(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("first", sa.Integer(), nullable=True),
        sa.Column("count", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "transaction", "id", name="events_pk"),
        postgresql_with=BUSY,
    )
    op.create_table(
        "node_executions",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("node", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("idx", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.Column("have", sa.Integer(), nullable=False),
        sa.Column("need", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("losses", sa.Integer(), server_default="0", nullable=False),
        sa.Column("emitted", sa.Integer(), server_default="0", nullable=False),
        sa.Column("token", sa.Uuid(), nullable=True),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("check_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rings", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "node_execution_is_sound(status, open, ended_at, token, lease_until, have, need, reason)",
            name="sound",
        ),
        sa.PrimaryKeyConstraint("run_id", "node", "idx", name="node_executions_pk"),
        postgresql_with={"fillfactor": 75, **BUSY},
    )
    op.create_index(
        "node_executions_check_idx", "node_executions", ["check_at"], unique=False, postgresql_where=sa.text("open")
    )
    op.create_index(
        "node_executions_open_idx",
        "node_executions",
        ["run_id"],
        unique=False,
        postgresql_where=sa.text("open"),
        postgresql_with={"deduplicate_items": "off"},
    )
    op.create_table(
        "outputs",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("node", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("idx", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("part", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("pin", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "node", "idx", "ordinal", "part", name="outputs_pk"),
        postgresql_with=BUSY,
    )
    op.create_table(
        "parked_routes",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("node", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("idx", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ordinals", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("parts", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("sinks", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("pins", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("statics", postgresql.ARRAY(sa.Boolean()), nullable=False),
        sa.Column("needs", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("bases", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("sticky_sinks", postgresql.ARRAY(sa.Boolean()), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "node", "idx", "first", name="parked_routes_pk"),
        postgresql_with=BUSY,
    )
    op.create_table(
        "sticky_values",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("node", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("pin", sa.Text(), nullable=False),
        sa.Column("source_node", sa.Integer(), nullable=False),
        sa.Column("source_idx", sa.Integer(), nullable=False),
        sa.Column("source_ordinal", sa.Integer(), nullable=False),
        sa.Column("source_part", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "node", "pin", name="sticky_values_pk"),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="users_pk"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="api_keys_owner_id_fk", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="api_keys_pk"),
        sa.UniqueConstraint("digest", name="api_keys_digest_key"),
    )
    op.create_index("api_keys_owner_id_idx", "api_keys", ["owner_id"], unique=False)
    op.create_table(
        "graphs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("latest_version", sa.Integer(), nullable=False),
        sa.Column("inline", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="graphs_owner_id_fk"),
        sa.PrimaryKeyConstraint("id", name="graphs_pk"),
    )
    op.create_index(
        "graphs_inline_digest_key", "graphs", ["owner_id", "digest"], unique=True, postgresql_where=sa.text("inline")
    )
    op.create_index(
        "graphs_owner_idx",
        "graphs",
        ["owner_id", sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL AND NOT inline"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="idempotency_keys_owner_id_fk", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("owner_id", "key", name="idempotency_keys_pk"),
    )
    op.create_index("idempotency_keys_created_idx", "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "graph_versions",
        sa.Column("graph_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["graph_id"], ["graphs.id"], name="graph_versions_graph_id_fk", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("graph_id", "version", name="graph_versions_pk"),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("graph_id", sa.Uuid(), nullable=False),
        sa.Column("graph_version", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("masks", sa.Text(), nullable=True),
        sa.Column("labels", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("priority", sa.SmallInteger(), server_default="5", nullable=False),
        sa.Column("stop_as", sa.Text(), nullable=True),
        sa.Column("stop_reason", sa.Text(), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("parent_run_id", sa.Uuid(), nullable=True),
        sa.Column("parent_node", sa.Integer(), nullable=True),
        sa.Column("parent_idx", sa.Integer(), nullable=True),
        sa.Column("root_id", sa.Uuid(), nullable=False),
        sa.Column("depth", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("retry_no", sa.Integer(), server_default="0", nullable=False),
        sa.Column("stats", postgresql.JSONB(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("agentflow_now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(status IN ('CANCELLED', 'COMPLETED', 'FAILED')) = (ended_at IS NOT NULL)", name="ended_has_time"
        ),
        sa.CheckConstraint("status <> 'FAILED' OR reason IS NOT NULL", name="failed_has_reason"),
        sa.CheckConstraint(
            "status IN ('CANCELLED', 'COMPLETED', 'FAILED', 'QUEUED', 'RUNNING', 'WAITING')", name="status_known"
        ),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name="priority_range"),
        sa.ForeignKeyConstraint(
            ["graph_id", "graph_version"], ["graph_versions.graph_id", "graph_versions.version"], name="runs_graph_fk"
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="runs_owner_id_fk"),
        sa.PrimaryKeyConstraint("id", name="runs_pk"),
        sa.UniqueConstraint("parent_run_id", "parent_node", "parent_idx", name="runs_parent_key"),
        postgresql_with={"fillfactor": 80, **BUSY},
    )
    op.create_index("runs_graph_idx", "runs", ["graph_id", sa.literal_column("id DESC")], unique=False)
    op.create_index(
        "runs_deadline_idx",
        "runs",
        ["deadline_at"],
        unique=False,
        postgresql_where=sa.text("ended_at IS NULL AND deadline_at IS NOT NULL"),
    )
    op.create_index("runs_open_idx", "runs", ["id"], unique=False, postgresql_where=sa.text("ended_at IS NULL"))
    op.create_index(
        "runs_owner_status_idx", "runs", ["owner_id", "status", sa.literal_column("id DESC")], unique=False
    )
    op.create_index(
        "runs_labels_idx",
        "runs",
        ["labels"],
        unique=False,
        postgresql_using="gin",
        postgresql_ops={"labels": "jsonb_path_ops"},
    )
    op.create_index("runs_owner_idx", "runs", ["owner_id", sa.literal_column("id DESC")], unique=False)


def downgrade() -> None:
    raise NotImplementedError("there is nothing before the first schema: drop the database instead")
