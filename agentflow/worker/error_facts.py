"""Gives what a failed node execution tells on its error pin besides its message: which item it was, and its inputs.

Links select from it (`error_#_inputs_#_url`); the pin itself gives the message, a text. Secrets stay hidden.
"""

from collections.abc import Mapping
from typing import Any

from agentflow.engine.codec import loads
from agentflow.engine.execution import ExecutionKey
from agentflow.engine.inputs import collect_shown
from agentflow.services import secrecy
from agentflow.settings import settings
from agentflow.storage.connect import session
from agentflow.storage.views.node_executions import Budget, Key, delivered
from agentflow.worker.process import RunContext


def error_facts(
    run: RunContext, key: ExecutionKey, attempt: int, reason: str | None, delivered: Mapping[str, Any]
) -> dict[str, Any]:
    """What links may select (`graph.catalogue.ERROR_FACTS`), except the message.

    Args:
        run: the run.
        key: the node execution.
        attempt: the attempt that failed.
        reason: the kind of failure, or `timeout`, `worker_lost`.
        delivered: what links delivered to it, {pin: value}.
    """
    node = run.plan.nodes[key.node]
    inputs = collect_shown(node, delivered, run.masks.get(node.id, {}))
    return {
        "node": node.id,
        "title": node.title,
        "block": node.block_name,
        "index": key.idx,
        "attempt": attempt,
        "reason": reason,
        "inputs": secrecy.hide_fed(run.plan, node, secrecy.hide_inputs(node, inputs)),
    }


def stored_inputs(run: RunContext, key: ExecutionKey) -> dict[str, Any]:
    """What links delivered to a node execution whose worker is gone, {pin: value}."""
    node, most = run.plan.nodes[key.node], settings().max_value_bytes
    with session() as opened:
        found = delivered(opened, run.run_id, [(key.node, pin, key.idx) for pin in node.pins], Budget(most, most, 0))
    return {pin: loads(value.text or "null") for pin, (_, value) in found.get(Key(key.node, key.idx), {}).items()}
