"""Adds triggers, and what is delivered to them."""

import sqlalchemy as sa

from alembic import op

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    op.create_table(
        "triggers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("graph_id", sa.Uuid()),
        sa.Column("preset_id", sa.Uuid()),
        sa.Column("version", sa.Integer()),
        sa.Column("node", sa.Text()),
        sa.Column("given", sa.Text(), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("scheme", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary()),
        sa.Column("key_id", sa.Text()),
        sa.Column("former_until", sa.DateTime(timezone=True)),
        sa.Column("wait", sa.Integer()),
        sa.Column("keep", sa.Integer(), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True)),
        sa.Column("pause_reason", sa.Text()),
        sa.Column("refusals", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("rejected", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("rejected_at", sa.DateTime(timezone=True)),
        sa.Column("rejected_reason", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="triggers_pk"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="triggers_owner_id_fk", ondelete="CASCADE"),
        sa.CheckConstraint(
            "scheme IN ('github', 'none', 'slack', 'standard', 'stripe')", name="scheme_known"
        ),
        sa.CheckConstraint("(secret IS NULL) = (key_id IS NULL)", name="secret_has_a_key"),
    )
    op.create_index("triggers_owner_idx", "triggers", ["owner_id", sa.text("id DESC")])
    op.create_index("triggers_digest_key", "triggers", ["digest"], unique=True)
    op.create_table(
        "trigger_deliveries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("trigger_id", sa.Uuid(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("delivery_id", sa.Text()),
        sa.Column("event", sa.Text()),
        sa.Column("run_id", sa.Uuid()),
        sa.Column("signal", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("payload", sa.Text()),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("redelivery_of", sa.Uuid()),
        sa.Column("repeats", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("repeated_at", sa.DateTime(timezone=True)),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="trigger_deliveries_pk"),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["users.id"], name="trigger_deliveries_owner_id_fk", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["trigger_id"], ["triggers.id"], name="trigger_deliveries_trigger_id_fk", ondelete="CASCADE"
        ),
        sa.CheckConstraint(
            "outcome IN ('duplicate', 'ignored', 'refused', 'run', 'signal')",
            name="outcome_known",
        ),
    )
    op.create_index(
        "trigger_deliveries_claim_key",
        "trigger_deliveries",
        ["trigger_id", "delivery_id"],
        unique=True,
        postgresql_where=sa.text("outcome IN ('duplicate', 'run', 'signal')"),
    )
    op.create_index(
        "trigger_deliveries_trigger_idx",
        "trigger_deliveries",
        ["trigger_id", sa.text("id DESC")],
        postgresql_include=["size"],
    )
    op.create_index("trigger_deliveries_owner_idx", "trigger_deliveries", ["owner_id"])


def downgrade() -> None:
    op.drop_table("trigger_deliveries")
    op.drop_table("triggers")
