"""The Celery tasks. Their arguments are ids; everything else is in PostgreSQL."""

from typing import Any
from uuid import UUID

from agentflow.clock import monotonic
from agentflow.dispatch.publish import EXAMINE, EXECUTE, FINALISE, NOTIFY
from agentflow.engine.execution import ExecutionKey
from agentflow.moderation import service as moderation
from agentflow.notifications import delivery
from agentflow.services.transaction import carry_out
from agentflow.worker.app import app
from agentflow.worker.endings import NodeExecutionFailed
from agentflow.worker.execute import execute as _execute
from agentflow.worker.faults import counted
from agentflow.worker.finalise import finalise as _finalise
from agentflow.worker.finalise import finalise_again


@app.task(  # type: ignore[untyped-decorator]
    name=EXECUTE, Request="agentflow.worker.request:NodeRequest", throws=(NodeExecutionFailed,)
)
def execute(run_id: str, node: int, idx: int) -> None:
    """Run the `idx`-th execution of a node: claim, load, perform, settle."""
    key = ExecutionKey(UUID(run_id), node, idx)
    with counted(key):
        ending = _execute(key)
    if ending is not None:
        raise ending


@app.task(name=FINALISE, bind=True)  # type: ignore[untyped-decorator]
def finalise_run(self: Any, run_id: str, again: bool = False) -> None:
    """The completion callback: enqueued at least once when the last open node execution ends; it takes effect once.

    `again`, or a redelivery by the broker, means that a process may have died at this run.
    """
    again = again or self.request.delivery_info.get("redelivered", False)
    with counted(UUID(run_id)):
        if again:
            finalise_again(UUID(run_id))
        else:
            _finalise(UUID(run_id))


@app.task(name=EXAMINE)  # type: ignore[untyped-decorator]
def examine_run(run_id: str) -> None:
    """Have moderation examine what a run is given: it is admitted then, or ends FAILED."""
    with counted(UUID(run_id)):
        carry_out(moderation.examine(UUID(run_id)))


@app.task(name=NOTIFY)  # type: ignore[untyped-decorator]
def deliver_notifications(channel_id: str) -> None:
    """Send what is due over a channel. If this is lost, or fails, a chore calls for the channel again."""
    began = monotonic()
    while carry_out(delivery.deliver_next(UUID(channel_id))) and monotonic() - began < delivery.turn_seconds():
        pass
