"""The inputs and outputs of a sub-graph are called as its author likes: no name means something else on its way."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from installation import api, app, environment, key, outcome, push, shared_database, work

from agentflow.blocks import registry
from agentflow.blocks.flow.sub_graphs import AgentExecutor
from agentflow.graph.wiring import SUB_GRAPH_PINS

__all__ = ["api", "app", "environment", "key", "outcome", "push", "shared_database", "work"]

pytestmark = pytest.mark.timeout(240, method="thread")

Push = Callable[..., UUID]
Outcome = Callable[..., dict[str, Any]]

AWKWARD = (
    *sorted(SUB_GRAPH_PINS),
    *("error", "tools", "tools_^_sub_~_word", "name", "value", "output", "result", "format"),
    *("a", "a_#_b", "a_$_0", "a_$_x", "a_@_b_#_c", "inputs_#_word", "graph_id_#_x", "_#_", "error_#_node"),
    *("self", "cls", "model_config", "model_fields", "__class__", "_x", "x y", "a/b", "ключ", "{{a}}"),
)


def node(id: str, block: str, **literals: Any) -> dict[str, Any]:
    return {"id": id, "block_id": registry.by_name(block).id, "input_default": literals}


def link(source: str, source_name: str, sink: str, sink_name: str) -> dict[str, Any]:
    return {"source_id": source, "source_name": source_name, "sink_id": sink, "sink_name": sink_name}


def child(names: list[str]) -> dict[str, Any]:
    """Gives each of its inputs on the output of the same name."""
    inputs = [node(f"in{number}", "AgentInput", name=name) for number, name in enumerate(names)]
    outputs = [node(f"out{number}", "AgentOutput", name=name) for number, name in enumerate(names)]
    links = [link(f"in{number}", "result", f"out{number}", "value") for number in range(len(names))]
    return {"name": "child", "nodes": [*inputs, *outputs], "links": links}


def parent(api: FlaskClient, graph_id: UUID, linked: list[str], literal: dict[str, Any], names: list[str]) -> Any:
    """Runs the child, with links to its inputs `linked` and from all of its outputs."""
    shown: Any = api.get(f"/api/v1/graphs/{graph_id}").json
    schemas = {key: shown[key] for key in ("input_schema", "output_schema")}
    sub = node("sub", "AgentExecutor", graph_id=str(graph_id), graph_version=1, inputs=literal, **schemas)
    nodes, links = [sub], []
    for number, name in enumerate(linked):
        nodes.append(node(f"in{number}", "AgentInput", name=f"in{number}"))
        links.append(link(f"in{number}", "result", "sub", name))
    for number, name in enumerate(names):
        nodes.append(node(f"out{number}", "AgentOutput", name=f"out{number}"))
        links.append(link("sub", name, f"out{number}", "value"))
    return {"name": "parent", "nodes": nodes, "links": links}


def test_the_pins_of_a_sub_graph_node_are_those_of_its_block() -> None:
    assert set(AgentExecutor.Input.model_fields) == SUB_GRAPH_PINS


@settings(
    deadline=None,
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(names=st.lists(st.sampled_from(AWKWARD), min_size=1, max_size=6, unique=True), data=st.data())
@example(names=list(AWKWARD), data=None)
def test_whatever_comes_to_the_node_is_an_input_of_its_graph_and_comes_out_as_its_output(
    api: FlaskClient, push: Push, outcome: Outcome, names: list[str], data: st.DataObject | None
) -> None:
    by_link = names if data is None else data.draw(st.lists(st.sampled_from(names), unique=True))
    graph_id = push(child(names))
    values = {name: {"of": name, "b": number} for number, name in enumerate(names)}
    alone = outcome(graph_id, values)
    assert alone["outputs"] == {name: [values[name]] for name in names}
    literal = {name: values[name] for name in names if name not in by_link}
    document = parent(api, graph_id, by_link, literal, names)
    run = outcome(push(document), {f"in{number}": values[name] for number, name in enumerate(by_link)})
    assert (run["status"], run["error"]) == ("COMPLETED", None)
    assert run["outputs"] == {f"out{number}": [values[name]] for number, name in enumerate(names)}


@pytest.mark.parametrize("name", ["graph_id", "inputs", "user_id"])
def test_a_mask_on_an_input_of_the_graph_is_that_and_nothing_else(
    api: FlaskClient, push: Push, outcome: Outcome, name: str
) -> None:
    graph_id = push(child([name]))
    document = parent(api, graph_id, [], {name: "literal"}, [name])
    root = push(document)
    run = outcome(root, nodes_input_masks={"sub": {name: {"masked": 1}}})
    assert (run["status"], run["outputs"]) == ("COMPLETED", {"out0": [{"masked": 1}]})


def test_a_failure_of_a_graph_that_has_an_output_error_goes_out_there_too(
    api: FlaskClient, push: Push, outcome: Outcome
) -> None:
    inner = child(["error"])
    inner["nodes"].append(node("bad", "RemoveFromList", list=[1, 2], index=5))
    document = parent(api, push(inner), [], {"error": {"said": 1}}, ["error"])
    reply: Any = api.post("/api/v1/graphs/validate", json=document).json
    assert [one["pin"] for one in reply["problems"]] == ["error"], "a warning says so"
    run = outcome(push(document))
    assert run["status"] == "COMPLETED", "a link from it handles the failure"
    value, message = run["outputs"]["out0"]
    assert (value, message.startswith("the run of graph ")) == ({"said": 1}, True)
