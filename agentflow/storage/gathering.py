"""Completes gathers when nothing of their run is busy: gives out the values that fill no group."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from agentflow.engine.statuses import NodeStatus
from agentflow.engine.verdict import NodeCount
from agentflow.graph.coercion import coerce
from agentflow.graph.plan import Plan, PlanNode
from agentflow.storage.runs import Ready

_FLUSH = text("SELECT agentflow_flush(:run, :node, :pin, :size, :need, :empty)")

_LARGEST: Final = 2**31 - 1  # PostgreSQL's int

_SIZE: Final = "size"
"""The pin on which a gathering node is told how many values make a group."""


def flush(
    session: Session, run_id: UUID, plan: Plan, masks: Mapping[str, Mapping[str, Any]], counts: Sequence[NodeCount]
) -> list[Ready]:
    """Make executions of the gathering nodes with a remainder, the most upstream first: their output may feed others.

    One without any value gives an empty list if a for-each went through its items and none reached it, and nothing in
    a branch that was not taken. `counts`: the run's node executions. Takes the run's gate alone, and does nothing if
    something of the run is open again.
    """
    if not session.scalar(text("SELECT agentflow_over(:run)"), {"run": run_id}):
        return []
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
                "size": _size(node, masks.get(node.id, {})),
                "need": node.need,
                "empty": _went_through(plan.iterated(node), counts),
            },
        )
        if idx is not None:
            ready.append(Ready(node.number, idx))
            held_up |= plan.downstream(node.number)
    return ready


def _went_through(nodes: Collection[int], counts: Sequence[NodeCount]) -> bool:
    """Whether some of these nodes have completed, and none has failed."""
    statuses = {count.status for count in counts if count.node in nodes}
    return NodeStatus.COMPLETED in statuses and NodeStatus.FAILED not in statuses


def _size(node: PlanNode, mask: Mapping[str, Any]) -> int | None:
    """Values in a group, as the graph or a mask says; None: all, or a link says."""
    return group_size(mask.get(_SIZE, None if _SIZE in node.pins else node.input_default.get(_SIZE)))


def group_size(given: Any) -> int | None:
    """The size of a group, coerced as its pin does; None: all values, or a value that the block will refuse."""
    size = coerce(given, int)
    return int(size) if size is not None and 0 < size <= _LARGEST else None
