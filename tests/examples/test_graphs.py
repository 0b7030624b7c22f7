"""Every example graph is right, says what it does, and the set shows what the README promises."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from agentflow.blocks.registry import by_name, catalogue
from agentflow.graph.catalogue import ERROR_PIN, BlockKind
from agentflow.graph.model import Graph
from agentflow.graph.plan import Plan, compile_plan
from agentflow.graph.schemas import input_schema
from agentflow.graph.validation import validate
from agentflow.shipped import shipped

FILES = sorted(shipped("examples").glob("*.json"))


def document(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def graph(file: Path) -> Graph:
    return Graph.from_json(file.read_text(encoding="utf-8"))


def plan_of(name: str) -> Plan:
    return compile_plan(Graph.from_json((shipped("examples") / name).read_text(encoding="utf-8")), catalogue)


def test_there_are_at_least_three_examples() -> None:
    assert len(FILES) >= 3


def test_an_example_has_no_problem_not_even_a_warning(graph: Graph) -> None:
    required = input_schema(graph, catalogue)["required"]
    assert validate(graph, catalogue) == []
    assert validate(graph, catalogue, for_run=True, inputs=dict.fromkeys(required, "given")) == []


def test_an_example_says_what_it_does_and_how_to_use_it(graph: Graph) -> None:
    assert graph.name
    assert len(graph.description) > 40
    assert graph.instructions


def test_every_node_of_an_example_has_a_title_and_a_place_of_its_own(graph: Graph) -> None:
    titles = [node.title for node in graph.nodes]
    places = [tuple(node.metadata["position"].values()) for node in graph.nodes]
    assert None not in titles
    assert len(set(titles)) == len(titles)
    assert len(set(places)) == len(places)


def test_an_example_has_no_unknown_keys(graph: Graph) -> None:
    assert not graph.model_extra
    assert not any(node.model_extra for node in graph.nodes)
    assert not any(link.model_extra for link in graph.links)


def test_an_example_gives_something_out_and_its_inputs_that_have_no_default_are_named_in_its_instructions(
    file: Path, graph: Graph
) -> None:
    plan = compile_plan(graph, catalogue)
    assert plan.outputs, f"{file.name} has no output node"
    for name in input_schema(graph, catalogue)["required"]:
        assert name in (graph.instructions or "")


def test_the_page_digest_fetches_each_page_over_http_and_gathers_through_a_self_loop() -> None:
    plan = plan_of("page-digest.json")
    fetch, gather = plan.node("fetch"), plan.node("gather")
    assert fetch.block_id == by_name("SendWebRequest").id
    assert plan.node("each").block_id == by_name("StepThroughItems").id
    assert any(link.sink == fetch.number for link in plan.node("each").links)
    assert any(link.sink == gather.number for link in gather.links)


def test_the_savings_plan_is_a_loop() -> None:
    plan = plan_of("savings-plan.json")
    sinks = defaultdict(set)
    for node in plan.nodes:
        for link in node.links:
            sinks[node.number].add(link.sink)
    grow = plan.node("grow").number
    reached, waiting = set(), [grow]
    while waiting:
        for sink in sinks[waiting.pop()] - reached:
            reached.add(sink)
            waiting.append(sink)
    assert grow in reached


def test_the_order_desk_has_branches_and_a_handled_error_pin() -> None:
    plan = plan_of("order-desk.json")
    assert plan.node("lookup").handles_errors
    assert {link.source_pin for link in plan.node("large").links} == {"yes_output", "no_output"}
    assert any(link.source_pin == ERROR_PIN for node in plan.nodes for link in node.links)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_example_holds_a_secret_or_reaches_out_by_default(file: Path) -> None:
    for node in document(file)["nodes"]:
        assert not {"api_key", "password", "token", "secret", "credentials"} & node["input_default"].keys()
        value = str(node["input_default"].get("value", node["input_default"].get("url", "")))
        assert not value.startswith("http") or value.startswith("http://127.0.0.1:9/")


def test_every_kind_of_example_node_is_of_an_enabled_block() -> None:
    for path in FILES:
        for node in document(path)["nodes"]:
            spec = catalogue(node["block_id"])
            assert spec is not None
            assert spec.enabled
            assert spec.kind in BlockKind
