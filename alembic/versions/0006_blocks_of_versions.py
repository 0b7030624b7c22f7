"""A list of graphs can say which of them can run, though a block may have gone since they were stored."""

import sqlalchemy as sa

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column(
        "graph_versions", sa.Column("blocks", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False)
    )
    op.execute(r"""
        UPDATE graph_versions v SET blocks = ARRAY(
            SELECT DISTINCT n ->> 'block_id' FROM json_array_elements(v.document::json -> 'nodes') n
            UNION
            SELECT DISTINCT n ->> 'block_id'
            FROM json_array_elements(v.document::json -> 'sub_graphs') s, json_array_elements(s -> 'nodes') n
        )
        WHERE v.document NOT LIKE '%\\u0000%'  -- which an id of a missing block may hold, and no text of PostgreSQL's
    """)


def downgrade() -> None:
    op.drop_column("graph_versions", "blocks")
