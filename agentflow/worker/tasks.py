"""The two Celery tasks. Their arguments are ids; everything else is in PostgreSQL."""

from uuid import UUID

from agentflow.dispatch.publish import EXECUTE, FINALISE
from agentflow.worker.app import app
from agentflow.worker.execute import execute as _execute
from agentflow.worker.finalise import finalise as _finalise


@app.task(name=EXECUTE, Request="agentflow.worker.request:NodeRequest")  # type: ignore[untyped-decorator]
def execute(run_id: str, node: int, idx: int) -> None:
    """Run the `idx`-th execution of a node: claim, load, perform, settle."""
    _execute(UUID(run_id), node, idx)


@app.task(name=FINALISE)  # type: ignore[untyped-decorator]
def finalise_run(run_id: str) -> None:
    """The completion callback: enqueued at least once when the last open node execution ends; its effect is once."""
    _finalise(UUID(run_id))
