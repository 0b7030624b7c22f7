"""What becomes of a run in which nothing is busy? It rests, goes on, or ends; decided under its gate held alone.

It is called at least once when the last busy node execution settles, possibly more often and possibly too early; a call
that finds something busy, or the run ended, does nothing.
"""

import logging
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.dispatch import publish, ring_finaliser
from agentflow.engine.verdict import judge
from agentflow.services import admission
from agentflow.storage import gathering, runs
from agentflow.storage.connect import session
from agentflow.storage.runs import Ready
from agentflow.worker.process import Process, RunContext, process

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Result:
    """What was decided, and what must be published for it."""

    verdict: str
    ready: list[Ready] = field(default_factory=list)
    woken: tuple[UUID, Ready] | None = None  # of the parent's run


def finalise(run_id: UUID, state: Process | None = None) -> bool:
    """See to the run if nothing of it is busy; whether this call ended it. `state`: the caller's, where it has one."""
    state = state or process()
    run = state.run(run_id)
    if run is None:
        return False
    with session() as opened:
        result = _decide(opened, run)
    publish(run.plan, run_id, run.priority, result.ready)
    if result.woken is not None:
        parent_id, ready = result.woken
        if (parent := state.run(parent_id)) is not None:
            publish(parent.plan, parent_id, parent.priority, [ready])
    if result.verdict == "over" and run.parent_run_id is not None:
        ring_finaliser(run.parent_run_id)  # it may be stopped, and have waited for this one's end only
    if result.verdict in ("over", "resting") and run.parent_run_id is None:
        admission.admit(run.owner_id)
    return result.verdict == "over"


def _decide(opened: Session, run: RunContext) -> _Result:
    run_id, plan = run.run_id, run.plan
    rest = runs.rest(opened, run_id)
    if rest.verdict != "over":
        return _Result(rest.verdict, rest.ready)
    census = runs.take_census(opened, run_id)
    if census is None:
        return _Result("busy")
    if census.stop is None and (flushed := gathering.flush(opened, run_id, plan, run.masks, census.counts)):
        return _Result("released", flushed)
    missing = runs.missing_values(opened, run_id, plan, census)
    failure = runs.first_failure(opened, run_id, plan, census)
    verdict = judge(plan, census.counts, missing, census.stop, failure, census.reported)
    woken = runs.finish(opened, run_id, verdict)
    logger.info("run_ended", extra={"run": str(run_id), "status": verdict.status, "reason": verdict.reason})
    return _Result("over", woken=woken)
