"""When may a run start whose owner had as many active runs as they may? When another of theirs has ended, or waits."""

from uuid import UUID

from agentflow.dispatch import publish
from agentflow.services.plans import plan_of_run
from agentflow.services.transaction import transaction
from agentflow.settings import settings
from agentflow.storage import admission
from agentflow.storage.runs import Ready


def admit(owner_id: UUID) -> int:
    """Admit as many of the owner's runs as have a place now, the most urgent and then the oldest first; how many."""
    with transaction() as session:
        admitted = admission.admit(session, owner_id, settings().max_active_runs, settings().ready_window)
        plans = [plan_of_run(session, run) for run in admitted]
    for run, plan in zip(admitted, plans, strict=True):
        ready = [Ready(node, idx) for node, idx in zip(run.nodes, run.indexes, strict=True)]
        publish(plan, run.id, run.priority, ready)
    return len(admitted)
