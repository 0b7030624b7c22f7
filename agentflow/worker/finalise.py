"""Finalises a run in which nothing is busy: it rests, continues or ends, decided under its gate held alone.

It is called at least once when the last busy node execution settles, possibly more often and possibly too early; a call
that finds something busy, or the run ended, does nothing.
"""

import logging
from typing import Final
from uuid import UUID

from agentflow.credits import store as credits
from agentflow.dispatch import publish, publish_finaliser
from agentflow.engine.statuses import FailureReason, NodeStatus, RunStatus
from agentflow.engine.verdict import judge
from agentflow.services import admission
from agentflow.services.transaction import carry_out
from agentflow.storage import gathering, runs
from agentflow.storage.connect import session
from agentflow.storage.runs import Census
from agentflow.worker.faults import counted_ahead
from agentflow.worker.follow import publish_others
from agentflow.worker.process import Process, RunContext, process

logger = logging.getLogger(__name__)

_LOOKED_INTO: Final = frozenset({NodeStatus.INCOMPLETE, NodeStatus.FAILED})
"""Executions of which the summary of a run tells more than how many they are."""


def finalise(run_id: UUID, state: Process | None = None) -> bool:
    """Finalise the run if nothing of it is busy; whether this call ended it. `state`: the caller's, if it has one."""
    state = state or process()
    run = state.run(run_id)
    if run is None:
        return False
    with state.lock:
        rest = state.hot.rest(run_id)
    if rest.verdict == "resting":
        run.wake()
    publish(run, rest.ready)
    ended = rest.census is not None and _end(state, run, rest.census)
    if ended and run.parent_run_id is not None:
        publish_finaliser(run.parent_run_id)  # it may be stopped, and have waited only for this one's end
    if (ended or rest.verdict == "resting") and run.parent_run_id is None:
        _make_room(state, run)
    return ended


def finalise_again(run_id: UUID, state: Process | None = None) -> bool:
    """`finalise`, when a process may have died at it before: counted, so that it ends (`faults.counted_ahead`)."""
    state = state or process()
    with counted_ahead(state, run_id) as times:
        return times > 0 and finalise(run_id, state)


def _end(state: Process, run: RunContext, census: Census) -> bool:
    """End a run that is over, unless a gather has values left; whether it ended."""
    plan, gathers = run.plan, bool(run.plan.gathering) and census.stop is None
    missing, failure = {}, None
    if gathers or any(count.status in _LOOKED_INTO for count in census.counts):
        with session() as opened:
            flushed = gathering.flush(opened, run.run_id, plan, run.masks, census.counts) if gathers else []
            missing = runs.missing_values(opened, run.run_id, plan, census)
            failure = runs.first_failure(opened, run.run_id, plan, census)
        if flushed:
            publish(run, flushed)
            return False
    verdict = judge(plan, census.counts, missing, census.stop, failure, census.reported, _shortfall(run, census))
    with state.lock:
        finished = state.hot.finish(run.run_id, census, verdict, may_grow=gathers)
    run.wake()
    if finished.woken is not None:
        publish_others(state, [finished.woken])
    if finished.done:
        fields = {"run": str(run.run_id), "status": verdict.status, "reason": verdict.reason}
        if verdict.status is RunStatus.FAILED:  # whose message is the first failure's
            logger.warning("run_ended", extra={**fields, "error": verdict.error})
        else:
            logger.info("run_ended", extra=fields)
    return finished.done


def _shortfall(run: RunContext, census: Census) -> str | None:
    """What its owner could not pay for, if it was stopped for that."""
    if census.stop is None or census.stop[1] != FailureReason.INSUFFICIENT_BALANCE:
        return None
    with session() as opened:
        return credits.shortfall(opened, run.root_id)


def _make_room(state: Process, run: RunContext) -> None:
    """Give its place among the active runs to another run of its owner."""
    with state.lock:
        in_line = state.hot.in_line(run.owner_id)
    if in_line:
        carry_out(admission.admit(run.owner_id))
