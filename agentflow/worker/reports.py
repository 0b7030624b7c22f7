"""What the log says of a node execution that failed: one event, with a block's traceback where it has a bug.

node_execution_failed      it ended FAILED
node_execution_tried_again an attempt failed, and there will be another
"""

import logging
from typing import Any, Final

from agentflow.errors import Unavailable
from agentflow.logs import TRACE, log_outage
from agentflow.settings import settings
from agentflow.storage.node_executions import Change
from agentflow.worker.process import Process, RunContext

logger = logging.getLogger(__name__)

_MESSAGE_LIMIT: Final = 500  # characters; the whole message stands in the node execution


def report(
    process: Process, run: RunContext, key: tuple[int, int], attempt: int, change: Change, trace: str | None = None
) -> None:
    """Say that an attempt failed, once `change` is recorded; keep its traceback where the settings say so.

    Args:
        process: this process.
        run: the run.
        key: the node's number, and which of its executions.
        attempt: the attempt that failed.
        change: what was recorded; nothing is said of one that did not fail.
        trace: where in its block a bug was.
    """
    if change.status not in ("FAILED", "QUEUED") or change.reason is None:
        return
    node = run.plan.nodes[key[0]]
    fields: dict[str, Any] = {
        "run": str(run.run_id),
        "node": node.id,
        "block": node.block_name,
        "index": key[1],
        "attempt": attempt,
        "reason": change.reason,
        "error": (change.error or "")[:_MESSAGE_LIMIT],
    }
    if trace is not None:
        fields[TRACE] = trace
    if change.status == "QUEUED":
        logger.info("node_execution_tried_again", extra=fields)
        return
    logger.log(logging.ERROR if trace else logging.WARNING, "node_execution_failed", extra=fields)
    if trace is not None and settings().show_tracebacks:
        try:
            with process.lock:
                process.hot.keep_trace(run.run_id, *key, attempt, trace)
        except Unavailable as error:  # the log has it
            log_outage(logger, "traceback_not_kept", error, run=str(run.run_id))
