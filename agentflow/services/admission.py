"""Admits runs that waited because their owner had too many active ones, when another has ended or waits.

Submissions look for a place under the same lock (`sql/02_create.sql`); retried runs are admitted here.
"""

import logging
from uuid import UUID

from agentflow.dispatch import PublishedRun, publish, publish_finaliser
from agentflow.errors import Unavailable
from agentflow.services.plans import plan_of_run
from agentflow.services.transaction import Step, Steps
from agentflow.settings import settings
from agentflow.storage import runs
from agentflow.storage.runs import Ready

logger = logging.getLogger(__name__)


def admit(owner_id: UUID) -> Steps[int]:
    """Admit as many of the owner's runs as have a place now, the most urgent and then the oldest first; how many."""
    admitted = yield Step(runs.admit, owner_id, settings().max_active_runs, settings().ready_window)
    for run in admitted:
        try:
            plan = yield Step(plan_of_run, run)
        except Unavailable:
            raise
        except Exception:  # it must not keep the others waiting: recovery publishes it, or counts the fault
            logger.exception("admitted_not_published", extra={"run": str(run.id)})
            continue
        if not run.nodes:
            publish_finaliser(run.id)  # a retried one may have nothing to publish
        ready = [Ready(*key) for key in zip(run.nodes, run.indexes, strict=True)]
        publish(PublishedRun(run.id, plan, run.priority), ready)
    return len(admitted)
