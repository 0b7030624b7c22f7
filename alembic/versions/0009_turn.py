"""Adds the hold `turn`: a node execution is done, its outputs wait for delivery, and it does not count as busy."""

from alembic import op

revision = "0009"
down_revision = "0008"

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
            AND CASE WHEN open THEN hold IS NOT DISTINCT FROM 'turn'
                ELSE hold IS NULL OR hold = 'unrouted' END;
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
    op.execute(SOUND)
    op.execute(
        "UPDATE node_executions SET hold = 'turn' "
        "WHERE open AND hold IS NULL AND status IN ('CANCELLED', 'COMPLETED', 'FAILED')"
    )


def downgrade() -> None:
    op.execute(SOUND.replace("WHEN open THEN hold IS NOT DISTINCT FROM 'turn'", "WHEN open THEN hold IS NULL OR hold = 'turn'"))
    op.execute("UPDATE node_executions SET hold = NULL WHERE open AND hold = 'turn'")
    op.execute(
        SOUND.replace(
            """CASE WHEN open THEN hold IS NOT DISTINCT FROM 'turn'
                ELSE hold IS NULL OR hold = 'unrouted' END""",
            "(hold IS NULL OR (hold = 'unrouted' AND NOT open))",
        )
    )
