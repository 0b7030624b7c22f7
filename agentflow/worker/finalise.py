"""How is a run ended? Once, under its gate held alone, when nothing of it is open.

It is called at least once when the last open node execution ends, possibly more often and possibly too early; a call
that finds something open, or the run ended, does nothing.
"""

import logging
from uuid import UUID

from agentflow.engine.codec import loads
from agentflow.engine.verdict import judge
from agentflow.services.plans import plan_of
from agentflow.storage import runs
from agentflow.storage.connect import session

logger = logging.getLogger(__name__)


def finalise(run_id: UUID) -> bool:
    """End the run if nothing of it is open; whether this call ended it."""
    with session() as opened:
        census = runs.take_census(opened, run_id)
        if census is None:
            return False
        plan = plan_of(opened, census.graph_id, census.graph_version)
        if census.masks:
            plan = plan.masked(loads(census.masks))
        missing = runs.missing_values(opened, run_id, plan, census)
        failure = runs.first_failure(opened, run_id, plan, census)
        verdict = judge(plan, census.counts, missing, census.stop, failure)
        runs.finish(opened, run_id, verdict)
    logger.info("run_ended", extra={"run": str(run_id), "status": verdict.status, "reason": verdict.reason})
    return True
