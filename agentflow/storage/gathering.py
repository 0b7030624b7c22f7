"""Does a gathering node hold values back that it must hand on now that its run has come to rest?"""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from agentflow.graph.plan import Plan, PlanNode
from agentflow.storage.runs import Ready

_FLUSH = text("SELECT agentflow_flush(:run, :node, :pin, :size, :need)")


def flush(session: Session, run_id: UUID, plan: Plan) -> list[Ready]:
    """Make executions of the gathering nodes with a remainder, the most upstream first: what they give may feed others.

    The run's gate is held alone, and nothing of it is open.
    """
    held_up: set[int] = set()
    ready: list[Ready] = []
    for node in plan.gathering:
        if node.number in held_up:
            continue
        idx = session.scalar(
            _FLUSH,
            {
                "run": run_id,
                "node": node.number,
                "pin": node.gathers,
                "size": _size(node),
                "need": node.need,
            },
        )
        if idx is not None:
            ready.append(Ready(node.number, idx))
            held_up |= plan.downstream(node.number)
    return ready


def _size(node: PlanNode) -> int | None:
    size = node.input_default.get("size")
    return size if isinstance(size, int) and size > 0 else None
