"""Caches the outputs of a block for equal inputs: `settings.cache` of a node.

The cache's key holds all that the result depends on: the block, its inputs, its tools, the credentials that its pins
take, and what the block names in `depends_on`. A `key` leaves out linked pins, and nothing else. A hit runs nothing and
costs nothing; a node under a limit looks for one before it takes a slot or a place in the rate. Only outputs of
`cacheable` blocks that completed without waiting are cached.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from uuid import UUID

from agentflow.blocks import registry
from agentflow.blocks.base import Block
from agentflow.engine.codec import dumps, loads
from agentflow.engine.execution import ExecutionKey
from agentflow.engine.inputs import collect, prepare
from agentflow.graph.cache_settings import overlap
from agentflow.graph.catalogue import BlockSpec, Dependence
from agentflow.graph.plan import PlanNode
from agentflow.memories import service as memories
from agentflow.services.transaction import transaction
from agentflow.worker import credentials
from agentflow.worker.attempt import Attempt
from agentflow.worker.context import linked_pins, tools
from agentflow.worker.process import Process, RunContext

Outputs = list[tuple[str, Any]]


def look_ahead(state: Process, run: RunContext, key: ExecutionKey, pins: list[str]) -> Outputs | None:
    """The cached outputs for a node execution that is not claimed yet; None: none, or that cannot be told."""
    node = run.plan.nodes[key.node]
    if node.settings.cache is None:
        return None
    with state.lock:
        ready, text = state.hot.peek(key, pins)
    if not ready:
        return None
    try:
        delivered: Mapping[str, Any] = loads(text) if text else {}
        block = registry.get(node.block_id)
        if block.gathers is not None:  # what it gathers is known only after the claim
            return None
        inputs = block.parse(prepare(collect(node, delivered, run.masks.get(node.id)), block.spec()))
        cache_key = _key(block, inputs, run, node, delivered)
    except Exception:  # it fails when it runs; a block's checks of its inputs may raise anything
        return None
    return None if cache_key is None else _kept(run.owner_id, cache_key)


def find(attempt: Attempt, block: Block, inputs: Any) -> Outputs | None:
    """The cached outputs; None: the block must run, and what it yields is recorded for the cache."""
    if attempt.kept_before is not None:
        return attempt.kept_before
    if attempt.node.settings.cache is None:
        return None
    delivered: Mapping[str, Any] = loads(attempt.claim.inputs) if attempt.claim.inputs else {}
    key = _key(block, inputs, attempt.run, attempt.node, delivered)
    if key is None:
        return None
    found = _kept(attempt.run.owner_id, key)
    if found is None:
        attempt.cache_key, attempt.kept = key, []
        attempt.may_be_kept = lambda pins: block.reusable(inputs, pins)
    return found


def keep(attempt: Attempt) -> None:
    """Cache what the attempt yielded, if it was recorded for that."""
    wanted = attempt.node.settings.cache
    if wanted is None or attempt.kept is None or not attempt.may_be_kept({pin for pin, _ in attempt.kept}):
        return
    with transaction() as session:
        memories.cache(session, attempt.run.owner_id, attempt.cache_key, attempt.kept, wanted.ttl)


def _kept(owner_id: UUID, key: str) -> Outputs | None:
    with transaction() as session:
        return memories.cached(session, owner_id, key)


def _key(block: Block, inputs: Any, run: RunContext, node: PlanNode, delivered: Mapping[str, Any]) -> str | None:
    """The cache's key; None: do not cache."""
    spec = block.spec()
    if not spec.cacheable or not block.reusable(inputs):
        return None
    given = prepare(collect(node, _counting(node, delivered), run.masks.get(node.id)), spec)
    depends = [block.id, dict(sorted(given.items())), *_depends(spec, inputs, run, node)]
    return hashlib.sha256(dumps(depends).encode()).hexdigest()


def _counting(node: PlanNode, delivered: Mapping[str, Any]) -> dict[str, Any]:
    """The delivered inputs that count: all, unless `key` names some of these pins."""
    key = (node.settings.cache.key if node.settings.cache else None) or ()
    named = {pin: value for pin, value in delivered.items() if any(overlap(name, pin) for name in key)}
    return named or dict(delivered)


def _depends(spec: BlockSpec, inputs: Any, run: RunContext, node: PlanNode) -> list[Any]:
    plan = run.plan
    depends: list[Any] = [[asdict(tool) for tool in tools(plan, node.number)]]
    if any("credentials_provider" in pin.schema for pin in spec.inputs.values()):
        depends.append(credentials.mark(run.owner_id))  # a block says only when it runs whose credential it takes
    if spec.gathers is not None:
        depends.append(inputs.items)  # the engine assembles them: they are not among what was delivered
    if Dependence.GRAPH in spec.depends_on:
        depends.append([str(plan.graph_id), plan.version, node.id])
    if Dependence.LINKS in spec.depends_on:
        linked = linked_pins(run, node)
        depends.append(None if linked is None else sorted(linked))
    return depends
