"""What a model is told of the nodes that it may call: every node and every pin has a name of its own."""

import re
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.blocks import registry
from agentflow.blocks.registry import catalogue
from agentflow.graph.model import Graph
from agentflow.graph.plan import Plan, compile_plan
from agentflow.worker.context import tools

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
BOSS, RUNS = (registry.by_name(name).id for name in ("Orchestrator", "AgentExecutor"))


def plan_of(*tools_of_boss: tuple[str, list[str]]) -> Plan:
    """A model with these tools: (title, pins) of sub-graph nodes."""
    nodes: list[dict[str, Any]] = [{"id": "boss", "block_id": BOSS, "input_default": {"prompt": "?"}}]
    links = []
    for number, (title, pins) in enumerate(tools_of_boss):
        schema = {"type": "object", "properties": {pin: {"type": "string"} for pin in pins}}
        given = {"graph_id": str(UUID(int=1)), "input_schema": schema, "output_schema": {}}
        meta = {"customized_name": title}
        nodes.append({"id": f"t{number}", "block_id": RUNS, "input_default": given, "metadata": meta})
        links += [
            {"source_id": "boss", "source_name": "tools", "sink_id": f"t{number}", "sink_name": pin} for pin in pins
        ]
    return compile_plan(Graph.model_validate({"name": "g", "nodes": nodes, "links": links}), catalogue)


@pytest.mark.parametrize(
    ("title", "name", "begins_with_it"),
    [
        ("find it", "find_it", False),
        ("Поиск", "tool", True),
        ("клиент 2", "2", True),
        ("find it " * 10, ("find_it_" * 10)[:64], True),
    ],
)
def test_a_title_that_the_name_cannot_say_is_told_with_the_description(
    title: str, name: str, begins_with_it: bool
) -> None:
    [tool] = tools(plan_of((title, ["a"])), 0)
    assert (tool.name, tool.description.startswith(title)) == (name, begins_with_it)
    assert "Runs another graph" in tool.description


def test_a_parameter_that_is_called_otherwise_than_its_pin_says_which_it_is() -> None:
    [tool] = tools(plan_of(("find", ["имя", "name"])), 0)
    assert tool.parameters["properties"] == {
        "_": {"type": "string", "description": "имя"},
        "name": {"type": "string"},
    }


def test_two_pins_that_simplify_to_one_name_are_two_parameters() -> None:
    [tool] = tools(plan_of(("find", ["a b", "a_b", "a-b", "a.b", "a/b"])), 0)
    assert dict(tool.pins) == {"a_b_2": "a b", "a_b": "a_b", "a-b": "a-b", "a_b_3": "a.b", "a_b_4": "a/b"}
    assert set(tool.parameters["properties"]) == set(tool.parameters["required"]) == set(tool.pins)


def test_a_name_that_is_taken_by_a_number_is_passed_over() -> None:
    [tool] = tools(plan_of(("find", ["a_b_2", "a b", "a_b"])), 0)
    assert dict(tool.pins) == {"a_b_2": "a_b_2", "a_b_3": "a b", "a_b": "a_b"}


PINS = st.text("ab _-.ü/", min_size=1, max_size=4) | st.sampled_from(["x" * 64, "x" * 65, "x" * 66, "x" * 62 + "_2"])


@given(st.lists(st.tuples(PINS, st.lists(PINS, min_size=1, max_size=8, unique=True)), min_size=1, max_size=4))
def test_every_pin_of_every_tool_can_be_called(given: list[tuple[str, list[str]]]) -> None:
    found = tools(plan_of(*given), 0)
    assert [sorted(tool.pins.values()) for tool in found] == [sorted(pins) for _, pins in given]
    assert len({tool.name for tool in found}) == len(found)
    for tool in found:
        assert set(tool.pins) == set(tool.parameters["properties"]) == set(tool.parameters["required"])
        assert all(NAME.fullmatch(name) for name in (tool.name, *tool.pins))
        assert all(tool.pins[pin] == pin for pin in tool.pins.values() if NAME.fullmatch(pin))
