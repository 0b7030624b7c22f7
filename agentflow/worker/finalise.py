"""How is a run ended? Once, under its gate held alone, when nothing of it is open.

It is called at least once when the last open node execution ends, possibly more often and possibly too early; a call
that finds something open, or the run ended, does nothing.
"""

import logging
from uuid import UUID

from agentflow.engine.codec import loads
from agentflow.engine.statuses import RunStatus
from agentflow.engine.verdict import judge
from agentflow.services.plans import plan_of
from agentflow.storage import runs
from agentflow.storage.connect import session

logger = logging.getLogger(__name__)


def finalise(run_id: UUID) -> bool:
    """End the run if nothing of it is open; whether this call ended it."""
    with session() as opened:
        run = runs.lock_quiescent(opened, run_id)
        if run is None:
            return False
        plan = plan_of(opened, run.graph_id, run.graph_version)
        if run.masks:
            plan = plan.masked(loads(run.masks))
        found = runs.census(opened, run_id, plan)
        stop = (RunStatus(run.stop_as), run.stop_reason) if run.stop_as else None
        verdict = judge(plan, found.counts, found.missing, stop, found.first_failure)
        runs.finish(opened, run_id, verdict.status, verdict.reason, verdict.error, verdict.stats)
    logger.info("run_ended", extra={"run": str(run_id), "status": verdict.status, "reason": verdict.reason})
    return True
