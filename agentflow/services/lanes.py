"""Warns of lanes of a run that no worker serves."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.dispatch.lanes import LANES
from agentflow.errors import ClientError, Problem
from agentflow.graph.plan import Plan
from agentflow.services.plans import plan_of_run
from agentflow.storage import lanes
from agentflow.storage.views import runs as run_views

_NOTED_AFTER: Final = timedelta(seconds=5)
_MOST_NODES: Final = 1_000  # nodes of runs that one look takes in


def unserved(session: Session, run_id: UUID, plan: Plan) -> list[str]:
    """The lanes in which node executions of a run are ready, and which no worker serves."""
    served = lanes.served(session)
    if all(node.lane in served for node in plan.nodes):
        return []
    return sorted({plan.nodes[number].lane for number in lanes.ready(session, run_id)} - served)


def wanted(session: Session) -> list[str]:
    """The lanes that no worker serves, in which something has waited for some seconds."""
    served = lanes.served(session)
    found: set[str] = set()
    for run_id, nodes in lanes.ready_for(session, _NOTED_AFTER, _MOST_NODES).items():
        run = run_views.find_any(session, run_id)
        if run is None:
            continue
        with suppress(ClientError):  # a graph that is gone, or with a block that is: others tell of that
            plan = plan_of_run(session, run)
            found |= {plan.nodes[number].lane for number in nodes}
    return sorted(found - served)


def warnings(session: Session, plan: Plan) -> Iterator[Problem]:
    """A warning for each node that names a lane which no worker serves now."""
    special = [node for node in plan.nodes if node.lane not in LANES]
    served = lanes.served(session) if special else frozenset()
    for node in special:
        if node.lane not in served:
            words = f"no worker serves the queue {node.lane!r} now: the node waits until one does"
            yield Problem(f"settings.queue: {words}", node.id, severity="warning")
