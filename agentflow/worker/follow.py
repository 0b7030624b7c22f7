"""Does what follows a settlement once it is committed: publishes what became ready, and ends a run that is over.

If the process dies here, recovery does it: it publishes again what is QUEUED and unclaimed, and finds open runs in
which nothing is busy.
"""

import logging
from collections.abc import Sequence
from itertools import groupby

from agentflow.dispatch import publish, publish_finaliser
from agentflow.engine.execution import ExecutionKey
from agentflow.engine.settlement import Settlement
from agentflow.engine.statuses import FailureReason, RunStatus
from agentflow.errors import AlreadyEnded, Unavailable
from agentflow.services.cancellation import stop_tree
from agentflow.services.transaction import carry_out
from agentflow.settings import settings
from agentflow.storage.hot.node_executions import HotConnection, Settled
from agentflow.storage.runs import Ready
from agentflow.worker.process import Process, RunContext

logger = logging.getLogger(__name__)

_OF_THE_TREE = frozenset({FailureReason.LIMIT, FailureReason.INSUFFICIENT_BALANCE, FailureReason.MODERATION})

_COUNTED_EVERY = 200
"""A process counts a tree's node executions whenever it has added a 200th of the limit: 0.5 % a process overshoot."""


def follow(process: Process, run: RunContext, settlement: Settlement, settled: Settled) -> None:
    """Publish what `settlement` made ready, release what waited behind it, finalise the run if nothing in it is busy.

    Or stop the run, if the settlement demands it or it has become too large or too expensive.
    """
    publish_others(process, settled.others)
    if (reason := _reason_to_stop(process, run, settled, settlement.consequences.stops_run)) is not None:
        run.wake()
        stop_run(run, reason)
        return
    publish(run, settled.ready)
    run.wake()  # behind it: who watches can wait, who works need not
    any_ready = bool(settled.ready)
    if settled.release_after is not None:
        any_ready = release(process.hot, run, settlement.key._replace(idx=settled.release_after)) or any_ready
    if (
        (settlement.transition.ends_task or settled.verdict == "stopped")
        and not any_ready
        and not (settled.crowded and settled.release_after is None)
        and settled.verdict != "lost"
    ):
        end_if_quiescent(process.hot, run)


def _reason_to_stop(
    process: Process, run: RunContext, settled: Settled, stops: FailureReason | None
) -> FailureReason | None:
    if stops is not None and settled.verdict == "landed":
        return stops
    if settled.short:
        return FailureReason.INSUFFICIENT_BALANCE
    if _is_too_large(process, run, len(settled.ready)):
        return FailureReason.LIMIT
    if run.budget is not None and (settled.total_cost or 0) > run.budget:
        return FailureReason.INSUFFICIENT_BALANCE
    return None


def publish_others(process: Process, ready: Sequence[ExecutionKey]) -> None:
    """Publish node executions of any runs. One that cannot be read is left to recovery: it must not harm this run."""
    for run_id, group in groupby(sorted(ready), key=lambda one: one.run_id):
        try:
            if (run := process.run(run_id)) is not None:
                run.wake()
                publish(run, [Ready(one.node, one.idx) for one in group])
        except Unavailable:
            raise
        except Exception:
            logger.exception("others_not_published", extra={"run": str(run_id)})


def release(hot: HotConnection, run: RunContext, key: ExecutionKey) -> bool:
    """Route the outputs that waited for `key`, and publish what became ready; whether anything did."""
    any_ready = False
    release_after: int | None = key.idx
    while release_after is not None:
        ready, release_after = hot.release(key._replace(idx=release_after))
        publish(run, ready)
        any_ready = any_ready or bool(ready)
    return any_ready


def _is_too_large(process: Process, run: RunContext, more: int) -> bool:
    """Whether the tree of runs has more node executions than it may; counted now and then, so it may overshoot."""
    limit = run.node_limit or settings().max_node_executions
    if process.count_made(run.root_id, more) < max(limit // _COUNTED_EVERY, 1):
        return False
    process.all_counted(run.root_id)
    return process.hot.execution_count(run.root_id) > limit


def end_if_quiescent(hot: HotConnection, run: RunContext) -> None:
    """Enqueue the finaliser if nothing of the run is busy. Two last settles may both do so; its effect is once."""
    if hot.quiescent(run.run_id):
        publish_finaliser(run.run_id)


def stop_run(run: RunContext, reason: FailureReason) -> None:
    """Stop the run, to end FAILED for `reason`; if it has ended, there is nothing to stop.

    A limit of the whole tree stops its root run. (A child's deadline is never later than its parent's.)
    """
    try:
        carry_out(stop_tree(run.root_id if reason in _OF_THE_TREE else run.run_id, RunStatus.FAILED, reason))
    except AlreadyEnded:
        return
