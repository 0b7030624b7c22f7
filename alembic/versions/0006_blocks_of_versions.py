"""Records the blocks of each graph version, so that a list of graphs shows which can still run."""

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
        WHERE v.document NOT LIKE '%\\u0000%'  -- the id of a missing block may contain it; PostgreSQL's text cannot
    """)


def downgrade() -> None:
    op.drop_column("graph_versions", "blocks")
