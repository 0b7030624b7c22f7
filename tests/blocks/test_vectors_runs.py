"""What an example says of a block holds in a run too, where inputs are coerced and outputs stored and read again."""

import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from installation import api, app, environment, key, shared_database, work

from agentflow.blocks import registry
from agentflow.blocks.base import Block, TestVector
from agentflow.engine.codec import dumps, loads
from agentflow.graph.catalogue import BlockKind

__all__ = ["api", "app", "environment", "key", "shared_database", "work"]

pytestmark = pytest.mark.timeout(120, method="thread")

NOT_SO_IN_A_RUN = {
    "Gather",  # the engine fills in what it gathers
    "GenericWebhookTrigger",  # is not let run without a payload
    "Orchestrator",  # nor this one without a credential
    "Note",  # never runs
}


def _can_be_run(block: type[Block], vector: TestVector) -> bool:
    """It goes well, at once."""
    waits = vector.waits is not None or vector.resumed is not None or not vector.safe_mode
    return block.enabled and block.name not in NOT_SO_IN_A_RUN and not (vector.fails or waits)


EXAMPLES = [(block, vector) for block in registry.every() for vector in block.vectors if _can_be_run(block, vector)]


def _told(api: FlaskClient, work: Callable[..., None], block: type[Block], inputs: dict[str, Any]) -> dict[str, Any]:
    """What the node execution of the block gave, by pin. A null literal says nothing, so nulls are delivered."""
    node = {"id": "n", "block_id": block.id, "input_default": {p: v for p, v in inputs.items() if v is not None}}
    nulls = {"n": {pin: value for pin, value in inputs.items() if value is None}}
    body = json.dumps(
        {
            "graph": {"name": block.name, "nodes": [node], "links": []},
            "nodes_input_masks": nulls,
            "allow_missing_inputs": True,
        }
    )
    reply: Any = api.post("/api/v1/runs", data=body, content_type="application/json")
    if reply.status_code != 202:
        return {"refused": reply.json}
    run_id = UUID(reply.json["id"])
    work(run_id)
    [found] = api.get(f"/api/v1/runs/{run_id}/nodes?values=full").json["items"]
    return dict(found["outputs"])


def _said(vector: TestVector) -> dict[str, Any]:
    by_pin = defaultdict(list)
    for pin, value in vector.outputs:
        by_pin[pin].append(loads(dumps(value)))
    return dict(by_pin)


def test_the_examples_hold_in_runs(api: FlaskClient, work: Callable[..., None]) -> None:
    assert len(EXAMPLES) > 200
    assert {block.kind for block, _ in EXAMPLES} >= {BlockKind.STANDARD, BlockKind.INPUT, BlockKind.OUTPUT}
    wrong = {}
    for number, (block, vector) in enumerate(EXAMPLES):
        told = _told(api, work, block, vector.inputs)
        if dumps(told) != dumps(_said(vector)):  # as text: the order of keys counts, and 1 is not 1.0
            wrong[f"{number} {block.name} {vector.inputs}"] = told
    assert wrong == {}
