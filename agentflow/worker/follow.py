"""What follows a settle, once it is committed? What became ready is published; a run in which nothing is open is ended.

If the process dies here, recovery does it: what is QUEUED and unclaimed is published again, and open runs in which
nothing is open are found.
"""

from agentflow.dispatch import publish, ring_finaliser
from agentflow.engine.statuses import FailureReason, RunStatus
from agentflow.engine.verdict import failure_is_unhandled
from agentflow.errors import AlreadyEnded
from agentflow.settings import settings
from agentflow.storage import runs
from agentflow.storage.connect import session
from agentflow.storage.node_executions import HotConnection, Settled
from agentflow.worker.process import RunContext

_COUNTED_EVERY = 200
"""Each process counts a run's node executions whenever it has added a 200th of the limit: 0.5 % a process overshoot."""


def follow(hot: HotConnection, run: RunContext, node: int, settled: Settled, *, final: bool) -> None:
    """Publish what `settled` made ready, release what waited behind it, and end the run if nothing is open."""
    if _is_too_large(hot, run, len(settled.ready)):
        stop_run(run, FailureReason.LIMIT)
        return
    publish(run.plan, run.run_id, run.priority, settled.ready)
    any_ready = bool(settled.ready)
    go_on = settled.go_on
    while go_on is not None:
        ready, go_on = hot.release(run.run_id, node, go_on)
        publish(run.plan, run.run_id, run.priority, ready)
        any_ready = any_ready or bool(ready)
    if final and not any_ready and not (settled.crowded and settled.go_on is None) and settled.verdict != "lost":
        end_if_quiescent(hot, run)


def _is_too_large(hot: HotConnection, run: RunContext, more: int) -> bool:
    """Whether the run has more node executions than it may; counted now and then, so it may overshoot by some."""
    limit = run.plan.settings.max_node_executions or settings().max_node_executions
    run.made += more
    if run.made < max(limit // _COUNTED_EVERY, 1):
        return False
    run.made = 0
    return hot.execution_count(run.run_id) > limit


def end_if_quiescent(hot: HotConnection, run: RunContext) -> None:
    """Enqueue the finaliser if nothing of the run is open. Two last settles may both do so; its effect is once."""
    if hot.quiescent(run.run_id):
        ring_finaliser(run.run_id)


def stop_after_failure(run: RunContext, node: int) -> None:
    """`on_node_failure: stop`: the first failure that nothing handles cancels the rest of the run."""
    if run.plan.nodes[node].settings.on_node_failure != "stop" or not failure_is_unhandled(run.plan, node):
        return
    stop_run(run, FailureReason.NODE_FAILED)


def stop_run(run: RunContext, reason: FailureReason) -> None:
    """Stop the run, to end FAILED for `reason`. If it has ended meanwhile, there is nothing to stop."""
    try:
        with session() as opened:
            stopped = runs.stop(opened, run.run_id, RunStatus.FAILED, reason)
    except AlreadyEnded:
        return
    if stopped.running == 0:
        ring_finaliser(run.run_id)
