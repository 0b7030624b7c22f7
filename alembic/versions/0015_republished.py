"""Names the column that counts how often recovery published a node execution again by what it counts.

In one step, because no release has had the column.
"""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    _rename("rings", "republished")


def downgrade() -> None:
    _rename("republished", "rings")


def _rename(old: str, new: str) -> None:
    op.alter_column("node_executions", old, new_column_name=new)
    # From PostgreSQL 18 on, NOT NULL is a constraint with a name, in which the column's name stands.
    op.execute(
        f"DO $$ BEGIN IF EXISTS (SELECT FROM pg_constraint WHERE conname = 'node_executions_{old}_not_null') THEN "
        f"ALTER TABLE node_executions RENAME CONSTRAINT node_executions_{old}_not_null "
        f"TO node_executions_{new}_not_null; END IF; END $$"
    )
