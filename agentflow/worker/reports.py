"""Logs a failed attempt: one event, with the block's traceback if it has a bug.

node_execution_failed      it ended FAILED
node_execution_tried_again an attempt failed, and there will be another
"""

import logging
from typing import Any, Final

from agentflow.engine.settlement import Settlement
from agentflow.engine.statuses import NodeStatus
from agentflow.errors import Unavailable
from agentflow.logs import TRACE, log_outage
from agentflow.settings import settings
from agentflow.worker.process import Process, RunContext

logger = logging.getLogger(__name__)

_MESSAGE_LIMIT: Final = 500  # characters; the node execution has the whole message


def report(process: Process, run: RunContext, settlement: Settlement, attempt: int, trace: str | None = None) -> None:
    """Log that an attempt failed, once its settlement is recorded; keep its traceback where the settings say so.

    Args:
        process: this process.
        run: the run.
        settlement: what was recorded; nothing is logged unless the attempt failed.
        attempt: the attempt that failed.
        trace: the traceback of its block's bug.
    """
    key, transition = settlement.key, settlement.transition
    if transition.status not in (NodeStatus.FAILED, NodeStatus.QUEUED) or transition.reason is None:
        return
    node = run.plan.nodes[key.node]
    fields: dict[str, Any] = {
        "run": str(run.run_id),
        "node": node.id,
        "block": node.block_name,
        "index": key.idx,
        "attempt": attempt,
        "reason": transition.reason,
        "error": (transition.error or "")[:_MESSAGE_LIMIT],
    }
    if trace is not None:
        fields[TRACE] = trace
    if transition.status is NodeStatus.QUEUED:
        logger.info("node_execution_tried_again", extra=fields)
        return
    logger.log(logging.ERROR if trace else logging.WARNING, "node_execution_failed", extra=fields)
    if trace is not None and settings().show_tracebacks:
        try:
            with process.lock:
                process.hot.keep_trace(key, attempt, trace)
        except Unavailable as error:  # the log has it
            log_outage(logger, "traceback_not_kept", error, run=str(run.run_id))
