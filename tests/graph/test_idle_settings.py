"""Every setting at every sort of node works, is refused, or is warned about when the graph is stored."""

from typing import Any

import pytest

from agentflow.blocks.registry import catalogue, every
from agentflow.graph.catalogue import BlockKind
from agentflow.graph.model import Graph
from agentflow.graph.settings import GraphSettings, NodeSettings
from agentflow.graph.validation import validate

SETTINGS: dict[str, Any] = {
    "retry": {"max_failures": 2},
    "on_worker_lost": "fail",
    "max_losses": 1,
    "timeout": 5,
    "on_node_failure": "stop",
    "ordering": "arrival",
    "cache": {"ttl": 60},
    "queue": "io",
    "priority": 9,
    "rate_limit": {"key": "k", "per_second": 5},
    "concurrency": {"key": "k", "limit": 5},
    "compensate_with": "other",
}

SORTS = {
    "standard": "FillTextTemplate",
    "gathering": "Gather",
    "for each": "StepThroughItems",
    "input": "AgentInput",
    "output": "AgentOutput",
    "note": "Note",
    "sub-graph": "AgentExecutor",
    "person": "HumanInTheLoop",
    "timer": "CountdownTimer",
    "event": "WaitForEvent",
    "model": "AITextGenerator",
}

WARNED = (
    {(sort, "compensate_with") for sort in SORTS}
    | {("note", key) for key in SETTINGS}
    | {(sort, key) for sort in ("sub-graph", "person", "timer", "event") for key in ("cache", "timeout")}
    | {(sort, "concurrency") for sort in ("person", "timer", "event")}
)
"""What has no effect there. All else works: tests/worker has the tests of each setting."""


def names() -> dict[str, Any]:
    return {block.name: block for block in every()}


def warnings(
    sort: str, settings: dict[str, Any], graph: dict[str, Any] | None = None, error: bool = False
) -> list[str]:
    """What is said of the settings of a node of that sort, which a link leaves."""
    known = names()
    block = known[SORTS[sort]]
    pins = [pin for pin in block.spec().outputs if pin != "error"]
    schema = {"output_schema": {"properties": {"said": {}}}} if sort == "sub-graph" else {}
    pin = "said" if sort == "sub-graph" else (pins or ["error"])[0]
    document = {
        "nodes": [
            {"id": "it", "block_id": block.id, "input_default": schema, "settings": settings},
            {"id": "other", "block_id": known["FillTextTemplate"].id},
        ],
        "links": [
            {"source_id": "it", "source_name": one, "sink_id": "other", "sink_name": f"values_#_{number}"}
            for number, one in enumerate([pin, *(["error"] if error else [])])
        ],
        "settings": graph or {},
    }
    problems = validate(Graph.model_validate(document), catalogue)
    return [problem.message for problem in problems if "the setting '" in problem.message]


def test_the_tables_of_this_module_are_complete() -> None:
    assert SETTINGS.keys() == NodeSettings.model_fields.keys()
    kinds = {block.kind for block in every()}
    assert {names()[block].kind for block in SORTS.values()} | {BlockKind.NOTE} >= kinds - {
        BlockKind.WEBHOOK,
        BlockKind.WEBHOOK_MANUAL,  # start with what came, and run like any other
    }


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("key", SETTINGS)
def test_a_setting_works_or_is_warned_about(sort: str, key: str) -> None:
    said = warnings(sort, {key: SETTINGS[key]})
    assert [message.startswith(f"the setting '{key}' has no effect") for message in said] == (
        [True] if (sort, key) in WARNED else []
    )


@pytest.mark.parametrize("key", sorted(SETTINGS.keys() - {"compensate_with"}))
def test_what_a_graph_sets_for_all_its_nodes_is_not_warned_about(key: str) -> None:
    for sort in SORTS:
        assert warnings(sort, {}, {key: SETTINGS[key]}) == []


def test_a_setting_that_another_one_switches_off_is_warned_about() -> None:
    [said] = warnings("standard", {"retry": {"base": 5}})
    assert "without 'max_failures'" in said
    assert warnings("standard", {"retry": {"base": 5}}, {"retry": {"max_failures": 2}}) == []
    [said] = warnings("standard", {"max_losses": 2, "on_worker_lost": "fail"})
    assert "no loss is borne" in said
    [said] = warnings("standard", {"on_node_failure": "stop"}, error=True)
    assert "handles every failure" in said
    assert warnings("standard", {"cache": None, "timeout": None}) == []


def test_order_without_a_link_is_warned_about() -> None:
    output = {"id": "out", "block_id": names()["AgentOutput"].id, "input_default": {"name": "n", "value": 1}}
    document = {"nodes": [{**output, "settings": {"ordering": "arrival"}}], "links": []}
    [problem] = validate(Graph.model_validate(document), catalogue)
    assert "no link leaves this node" in problem.message


@pytest.mark.parametrize("key", GraphSettings.model_fields)
def test_a_setting_of_a_sub_graph_that_only_the_root_has_is_warned_about(key: str) -> None:
    of_a_run = {"deadline": 5, "max_node_executions": 5, "budget": 5, "queue_timeout": 5, "runs": {"limit": 1}}
    values = {**SETTINGS, **of_a_run, "safe_mode": False}
    node = {"id": "it", "block_id": names()["FillTextTemplate"].id, "input_default": {"format": "x"}}
    part = {"id": "00000000-0000-4000-8000-000000000001", "nodes": [node], "settings": {key: values[key]}}
    problems = validate(Graph.model_validate({"nodes": [node], "sub_graphs": [part]}), catalogue)
    expected = key in ("budget", "max_node_executions", "priority", "queue_timeout", "runs")
    assert [f"the setting '{key}' has no effect here" in one.message for one in problems] == [True] * expected
