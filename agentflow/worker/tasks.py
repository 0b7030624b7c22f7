"""The two Celery tasks. Their arguments are ids; everything else is in PostgreSQL."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from agentflow.dispatch.publish import EXECUTE, FINALISE
from agentflow.errors import Unavailable
from agentflow.logs import log_outage
from agentflow.worker.app import app
from agentflow.worker.endings import NodeExecutionFailed, postgres_away
from agentflow.worker.execute import execute as _execute
from agentflow.worker.finalise import finalise as _finalise

logger = logging.getLogger(__name__)


@app.task(  # type: ignore[untyped-decorator]
    name=EXECUTE, Request="agentflow.worker.request:NodeRequest", throws=(NodeExecutionFailed,)
)
def execute(run_id: str, node: int, idx: int) -> None:
    """Run the `idx`-th execution of a node: claim, load, perform, settle."""
    with _or_another_process():
        ending = _execute(UUID(run_id), node, idx)
    if ending is not None:
        raise ending


@app.task(name=FINALISE)  # type: ignore[untyped-decorator]
def finalise_run(run_id: str) -> None:
    """The completion callback: enqueued at least once when the last open node execution ends; its effect is once."""
    with _or_another_process():
        _finalise(UUID(run_id))


@contextmanager
def _or_another_process() -> Iterator[None]:
    """What a block does wrong never comes here. What does is the engine's, and most likely a block broke the engine in
    this process (it patched a library, or closed a file): the next task gets a fresh one. Celery logs why.
    """
    try:
        yield
    except Unavailable as error:
        log_outage(logger, "task_postponed", error)
        raise postgres_away(error) from None
    except Exception as error:
        raise SystemExit(1) from error
