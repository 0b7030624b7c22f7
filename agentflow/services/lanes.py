"""Warns of lanes of a run that no worker serves."""

from collections.abc import Iterator
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.dispatch.lanes import LANES
from agentflow.errors import Problem
from agentflow.graph.plan import Plan
from agentflow.storage import lanes


def unserved(session: Session, run_id: UUID, plan: Plan) -> list[str]:
    """The lanes in which node executions of a run are ready, and which no worker serves."""
    served = lanes.served(session)
    if all(node.lane in served for node in plan.nodes):
        return []
    return sorted({plan.nodes[number].lane for number in lanes.ready(session, run_id)} - served)


def warnings(session: Session, plan: Plan) -> Iterator[Problem]:
    """A warning for each node that names a lane which no worker serves now."""
    special = [node for node in plan.nodes if node.lane not in LANES]
    served = lanes.served(session) if special else frozenset()
    for node in special:
        if node.lane not in served:
            words = f"no worker serves the queue {node.lane!r} now: the node waits until one does"
            yield Problem(f"settings.queue: {words}", node.id, severity="warning")
