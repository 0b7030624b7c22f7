"""What a block gets: literals, overlaid with what was delivered, masks on top."""

from typing import Any

import pytest
from plans import plan_of

from agentflow.engine.inputs import collect, prepare
from agentflow.errors import BadInput
from agentflow.graph.catalogue import BlockKind, BlockSpec, PinSpec
from agentflow.graph.plan import PlanNode


def node(**defaults: object) -> PlanNode:
    return plan_of(nodes=1, defaults={0: defaults}).nodes[0]


def spec(kind: BlockKind = BlockKind.STANDARD, required: bool = False, **annotations: Any) -> BlockSpec:
    return BlockSpec("id", "Test", kind, {n: PinSpec(n, a, required) for n, a in annotations.items()}, {})


@pytest.mark.parametrize(
    ("defaults", "delivered", "mask", "expected"),
    [
        ({}, {}, None, {}),
        ({"a": 1}, {}, None, {"a": 1}),
        ({"a": 1}, {"a": 2}, None, {"a": 2}),
        ({"a": 1}, {"a": None}, None, {"a": None}),
        ({"a": 1}, {"a": 2}, {"a": 3}, {"a": 3}),
        ({"a": 1}, {}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": 1}, {}, {}, {"a": 1}),
        ({"v_$_1": "b"}, {"v_$_0": "a"}, None, {"v_$_0": "a", "v_$_1": "b", "v": ["a", "b"]}),
        ({"v": {"z": 0}}, {"v_#_a": 1}, {"v_#_z": 2}, {"v_#_a": 1, "v_#_z": 2, "v": {"z": 2, "a": 1}}),
        ({"v_#_a": 1}, {"v_#_a": 2}, None, {"v_#_a": 2, "v": {"a": 2}}),
        ({"v_#_a": 1}, {"v_#_b": 2}, {"v": {"a": 3}}, {"v": {"a": 3}}),
        ({"v_#_a": 1, "v_#_b": 2}, {}, {"v_#_a": 3}, {"v_#_a": 3, "v_#_b": 2, "v": {"a": 3, "b": 2}}),
        ({"v_#_a_$_0": 1, "v_#_b": 2}, {}, {"v_#_a": [3]}, {"v_#_a": [3], "v_#_b": 2, "v": {"a": [3], "b": 2}}),
        ({"v": {"a": 1}}, {"v": {"b": 2}}, {"v": {"c": 3}}, {"v": {"c": 3}}),
        ({"v_$_0": 1}, {}, {"v_#_a": 2}, {"v_$_0": 1, "v_#_a": 2, "v": {"a": 2}}),
        ({"a": 1}, {"a": 2}, {"a": None}, {"a": None}),
        ({"v_$_2": "c"}, {}, None, {"v_$_2": "c", "v": [None, None, "c"]}),
    ],
)
def test_inputs_are_laid_over_each_other(
    defaults: dict[str, Any], delivered: dict[str, Any], mask: dict[str, Any] | None, expected: dict[str, Any]
) -> None:
    assert collect(node(**defaults), delivered, mask) == expected


def test_collecting_changes_neither_the_plan_nor_what_was_delivered() -> None:
    one = node(v={"a": 1})
    delivered = {"v_#_b": [2]}
    collect(one, delivered)["v"]["c"] = 3
    assert one.input_default == {"v": {"a": 1}}
    assert delivered == {"v_#_b": [2]}


def test_dynamic_pins_that_do_not_go_together_are_the_users_mistake() -> None:
    with pytest.raises(BadInput, match="v_\\$_first"):
        collect(node(), {"v_$_first": 1})


@pytest.mark.parametrize(
    ("collected", "pins", "expected"),
    [
        ({"a": "5"}, {"a": int}, {"a": 5}),
        ({"a": "no number"}, {"a": int}, {"a": 0}),
        ({"a": [1, 2]}, {"a": str}, {"a": "[1, 2]"}),
        ({"a": None}, {"a": int | None}, {}),
        ({"a": None}, {"a": int}, {}),
        ({}, {"a": int}, {}),
        ({"b": 1}, {"a": int}, {}),
        ({"a": "x", "a_$_0": "x"}, {"a": list[str]}, {"a": ["x"]}),
        ({"a": "NaN"}, {"a": Any}, {"a": "NaN"}),
        ({"a": 0, "b": "", "c": False}, {"a": int, "b": str, "c": bool}, {"a": 0, "b": "", "c": False}),
    ],
)
def test_declared_pins_get_their_types_and_null_counts_as_nothing(
    collected: dict[str, Any], pins: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert prepare(collected, spec(**pins)) == expected


@pytest.mark.parametrize("annotation", [Any, int, int | None, list[int]])
def test_a_null_that_a_required_pin_got_reaches_the_block(annotation: Any) -> None:
    assert prepare({"a": None}, spec(required=True, a=annotation)) == {"a": None}
    assert prepare({}, spec(required=True, a=annotation)) == {}


def test_a_sub_graphs_input_that_got_null_counts_as_not_given() -> None:
    agent = spec(BlockKind.AGENT, required=True, graph_id=str)
    assert prepare({"graph_id": "g", "own": None, "other": 0}, agent) == {"graph_id": "g", "other": 0}


def test_infinities_come_back_as_numbers_where_numbers_are_wanted() -> None:
    assert prepare({"a": "Infinity", "b": "-Infinity"}, spec(a=float, b=float)) == {
        "a": float("inf"),
        "b": float("-inf"),
    }
