"""Null × every pin of every block: where a pin needs a value and its type admits null, null is one; where the type
does not, the message says that null came; where the pin has a default, that counts."""

from contextlib import suppress
from typing import Any

import pytest
from flask.testing import FlaskClient
from installation import api, app, environment, key, outcome, push, shared_database, work
from pydantic import BaseModel, TypeAdapter, ValidationError
from standalone import STAND_ALONE

from agentflow.blocks import registry
from agentflow.blocks.base import Block, BlockInput
from agentflow.blocks.trial import collect
from agentflow.engine.codec import dumps
from agentflow.engine.inputs import prepare
from agentflow.errors import BadInput

__all__ = ["api", "app", "environment", "key", "outcome", "push", "shared_database", "work"]

pytestmark = pytest.mark.timeout(120, method="thread")

PINS = [pytest.param(block, pin, id=f"{block.name}.{pin}") for block in registry.every() for pin in block.spec().inputs]


def _example(block: type[Block]) -> dict[str, Any]:
    """Inputs that the block takes."""
    for vector in block.vectors:
        with suppress(BadInput):
            block.parse(vector.inputs)
            return vector.inputs
    return {}


def _admits_null(annotation: Any) -> bool:
    try:
        TypeAdapter(annotation).validate_python(None)
    except ValidationError:
        return False
    return True


def _at(inputs: BlockInput, block: type[Block], pin: str) -> Any:
    [field] = [name for name, info in block.Input.model_fields.items() if (info.alias or name) == pin]
    return getattr(inputs, field)


@pytest.mark.parametrize(("block", "pin"), PINS)
def test_null_is_taken_or_named_or_the_default_counts(block: type[Block], pin: str) -> None:
    declared = block.spec().inputs[pin]
    given = prepare({**_example(block), pin: None}, block.spec())
    if declared.required and not _admits_null(declared.annotation):
        with pytest.raises(BadInput, match=f"inputs: {pin}\\b.*: null came"):
            block.parse(given)
        return
    inputs = block.parse(given)
    value = _at(inputs, block, pin)
    assert value == declared.default or (isinstance(value, BaseModel) and declared.default is None)
    if block in STAND_ALONE:
        with suppress(BadInput):
            assert dumps([output for _, output in collect(registry.get(block.id), given)])


def _graph(*, default: dict[str, Any], pin: str, block: str, items: list[Any]) -> dict[str, Any]:
    """Each of `items` goes to `pin` of `block`, and what that gives on `output` is gathered."""
    ids = {name: registry.by_name(name).id for name in ("StepThroughItems", "Gather", "AgentOutput", block)}
    nodes = [
        {"id": "s", "block_id": ids["StepThroughItems"], "input_default": {"items": items}},
        {"id": "b", "block_id": ids[block], "input_default": default},
        {"id": "g", "block_id": ids["Gather"], "input_default": {}},
        {"id": "o", "block_id": ids["AgentOutput"], "input_default": {"name": "o"}},
    ]
    links = [("s", "item", "b", pin), ("b", "yes_output", "g", "item"), ("g", "items", "o", "value")]
    keys = ("source_id", "source_name", "sink_id", "sink_name")
    return {"name": "nulls", "nodes": nodes, "links": [dict(zip(keys, link, strict=True)) for link in links]}


def test_nulls_that_a_for_each_gives_go_on_like_any_value(push: Any, outcome: Any) -> None:
    document = _graph(block="Condition", pin="value1", default={"operator": "!=", "value2": 9}, items=[1, None, 3])
    run = outcome(push(document))
    assert (run["status"], run["outputs"]) == ("COMPLETED", {"o": [[1, None, 3]]})


def test_a_null_at_a_pin_that_does_not_take_it_is_told(push: Any, outcome: Any, api: FlaskClient) -> None:
    document = _graph(block="Condition", pin="operator", default={"value1": 1, "value2": 9}, items=["<", None])
    run = outcome(push(document))
    assert run["status"] == "FAILED"
    assert "operator: null came" in str(api.get(f"/api/v1/runs/{run['id']}/nodes").json)


def test_a_null_mask_at_a_pin_that_does_not_take_it_is_refused(api: FlaskClient) -> None:
    block = registry.by_name("Condition")
    reply = api.post(
        f"/api/v1/blocks/{block.id}/execute", json={"inputs": {"value1": None, "operator": None, "value2": 1}}
    )
    assert reply.status_code == 422
    assert [problem["pin"] for problem in reply.json["errors"]] == ["operator"]
