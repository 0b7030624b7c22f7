"""Adds credits: balances, the ledger, to which rows can only be added, and what is held back."""

import sqlalchemy as sa

from alembic import op

revision = "0021"
down_revision = "0020"

_TYPES = "type IN ('GRANT', 'REFUND', 'TOP_UP', 'USAGE')"


def upgrade() -> None:
    op.create_table(
        "credit_balances",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("balance", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("held", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_number", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("daily_limit", sa.BigInteger()),
        sa.Column("day", sa.Date()),
        sa.Column("spent", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("short_since", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("owner_id", name="credit_balances_pk"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="credit_balances_owner_id_fk", ondelete="CASCADE"),
        sa.CheckConstraint("held >= 0 AND balance >= held", name=op.f("credit_balances_not_negative")),
        sa.CheckConstraint("daily_limit >= 0", name=op.f("credit_balances_limit_not_negative")),
    )
    op.create_table(
        "credit_transactions",
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("agentflow_now()"), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("balance", sa.BigInteger(), nullable=False),
        sa.Column("unpaid", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("made_by", sa.Uuid()),
        sa.Column("run_id", sa.Uuid()),
        sa.Column("node", sa.Integer()),
        sa.Column("idx", sa.Integer()),
        sa.Column("attempt", sa.Integer()),
        sa.Column("node_id", sa.Text()),
        sa.Column("block", sa.Text()),
        sa.PrimaryKeyConstraint("owner_id", "number", name="credit_transactions_pk"),
        sa.CheckConstraint(_TYPES, name=op.f("credit_transactions_type_known")),
        sa.CheckConstraint(
            "CASE type WHEN 'USAGE' THEN amount <= 0 ELSE amount > 0 END",
            name=op.f("credit_transactions_amount_of_its_type"),
        ),
        sa.CheckConstraint("balance >= 0 AND unpaid >= 0", name=op.f("credit_transactions_not_negative")),
    )
    op.create_index("credit_transactions_cause_key", "credit_transactions", ["cause"], unique=True)
    op.create_table(
        "credit_holds",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("node", sa.Integer(), nullable=False),
        sa.Column("idx", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("price", sa.BigInteger()),
        sa.Column("settled_at", sa.DateTime(timezone=True)),
        sa.Column("token", sa.Uuid()),
        sa.Column("attempt", sa.Integer()),
        sa.Column("node_id", sa.Text()),
        sa.Column("block", sa.Text()),
        sa.PrimaryKeyConstraint("run_id", "node", "idx", name="credit_holds_pk"),
        sa.CheckConstraint("amount > 0 AND price BETWEEN 0 AND amount", name=op.f("credit_holds_in_bounds")),
    )
    op.create_index("credit_holds_owner_idx", "credit_holds", ["owner_id"])
    op.add_column("run_costs", sa.Column("shortfall", sa.Text()))
    op.execute(
        "CREATE FUNCTION credit_transactions_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
    )
    op.execute(
        "CREATE TRIGGER credit_transactions_append_only BEFORE UPDATE OR DELETE ON credit_transactions "
        "FOR EACH ROW EXECUTE FUNCTION credit_transactions_append_only()"
    )


def downgrade() -> None:
    op.drop_column("run_costs", "shortfall")
    for table in ("credit_holds", "credit_transactions", "credit_balances"):
        op.drop_table(table)
    op.execute("DROP FUNCTION credit_transactions_append_only()")
