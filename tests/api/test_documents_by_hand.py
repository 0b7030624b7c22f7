"""What people write by hand: blocks by name, sub-graphs without ids and schemas, misspelt keys; and old exports."""

import copy
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentflow.graph import nearly
from agentflow.graph.model import AGENT_BLOCK

CALLER: dict[str, Any] = {
    "$schema": "/api/v1/schemas/graph",
    "name": "caller",
    "nodes": [
        {"id": "in", "block_id": "AgentInput", "input_default": {"name": "word"}},
        {"id": "sub", "block_id": "AgentExecutor", "input_default": {"graph_id": "shout"}},
        {"id": "out", "block_id": "AgentOutput", "input_default": {"name": "said"}},
    ],
    "links": [
        {"source_id": "in", "source_name": "result", "sink_id": "sub", "sink_name": "q"},
        {"source_id": "sub", "source_name": "loud", "sink_id": "out", "sink_name": "value"},
    ],
    "sub_graphs": [
        {
            "id": "shout",
            "nodes": [
                {"id": "q", "block_id": "AgentInput", "input_default": {"name": "q"}},
                {"id": "fill", "block_id": "FillTextTemplate", "input_default": {"format": "{{ v }}!"}},
                {"id": "loud", "block_id": "AgentOutput", "input_default": {"name": "loud"}},
            ],
            "links": [
                {"source_id": "q", "source_name": "result", "sink_id": "fill", "sink_name": "values_#_v"},
                {"source_id": "fill", "source_name": "output", "sink_id": "loud", "sink_name": "value"},
            ],
        }
    ],
}


def saved(api: FlaskClient, document: dict[str, Any], status: int = 201) -> dict[str, Any]:
    reply = api.post("/api/v1/graphs", json=document)
    assert reply.status_code == status, reply.json
    return reply.json


def test_blocks_by_name_and_sub_graphs_without_ids_or_schemas(api: FlaskClient, outcome: Callable[..., Any]) -> None:
    graph = saved(api, CALLER)
    assert graph["warnings"] == []
    run = outcome(graph["id"], {"word": "hi"})
    assert (run["status"], run["outputs"]) == ("COMPLETED", {"said": ["hi!"]})
    shown: Any = api.get(f"/api/v1/graphs/{graph['id']}").json
    assert UUID(shown["nodes"][0]["block_id"])
    assert list(shown["nodes"][1]["input_default"]["input_schema"]["properties"]) == ["q"]


def test_the_same_document_again_makes_no_version(api: FlaskClient) -> None:
    graph = saved(api, CALLER)
    again = api.put(f"/api/v1/graphs/{graph['id']}", json=CALLER)
    assert (again.json["version"], again.json["created"]) == (1, False)


def test_graphs_may_run_each_other_by_name(api: FlaskClient, outcome: Callable[..., Any]) -> None:
    """A calls B calls C, and C is told of in B's own list."""
    document = json.loads(json.dumps(CALLER))
    inner = document["sub_graphs"][0]
    middle = {**json.loads(json.dumps(CALLER)), "id": "middle", "sub_graphs": [inner]}
    del middle["$schema"]
    document["sub_graphs"] = [middle]
    document["nodes"][1]["input_default"]["graph_id"] = "middle"
    document["links"][0]["sink_name"] = "word"
    document["links"][1]["source_name"] = "said"
    run = outcome(saved(api, document)["id"], {"word": "hi"})
    assert run["outputs"] == {"said": ["hi!"]}


def test_a_name_that_no_sub_graph_has_is_told_at_its_node(api: FlaskClient) -> None:
    document = json.loads(json.dumps(CALLER))
    document["nodes"][1]["input_default"]["graph_id"] = "shuot"
    problems = saved(api, document, 422)["errors"]
    assert any((one["node"], one["pin"]) == ("sub", "graph_id") and "'shuot'" in one["message"] for one in problems)


def test_a_misspelt_block_is_told_with_the_one_that_was_meant(api: FlaskClient) -> None:
    document = json.loads(json.dumps(CALLER))
    document["sub_graphs"][0]["nodes"][1]["block_id"] = "FilTextTemplate"
    (told,) = (one for one in saved(api, document, 422)["errors"] if "no block" in one["message"])
    assert "did you mean 'FillTextTemplate'?" in told["message"]


def test_misspelt_keys_are_warned_about_and_foreign_ones_are_not(api: FlaskClient) -> None:
    document = json.loads(json.dumps(CALLER)) | {"setings": {}, "color": "red", "link": [], "webhook": None}
    document["nodes"][0] |= {"metdata": {}, "positon_of_mine": 1, "webhook": {"id": 1}, "settings": {"timeuot": 5}}
    document["links"][1]["isstatic"] = True
    told = [one["message"] for one in saved(api, document)["warnings"]]
    assert len(told) == 4, told
    for key, known in {
        "setings": "settings",
        "metdata": "metadata",
        "isstatic": "is_static",
        "timeuot": "timeout",
    }.items():
        assert any(f"'{key}'" in one and f"'{known}'" in one for one in told), (key, told)


@pytest.mark.parametrize(
    ("place", "old", "new", "told"),
    [
        ("links", "source_id", "source", "link number 0.source_id: Field required; is 'source' meant to be it?"),
        ("nodes", "block_id", "block_ids", "block_id: Field required; is 'block_ids' meant to be it?"),
    ],
)
def test_a_missing_key_is_told_with_the_one_that_may_be_meant(
    api: FlaskClient, place: str, old: str, new: str, told: str
) -> None:
    document = json.loads(json.dumps(CALLER))
    document[place][0][new] = document[place][0].pop(old)
    document[place][0].pop("id", None) if place == "links" else None
    assert told in [one["message"] for one in saved(api, document, 422)["errors"]]


def test_of_very_many_missing_keys_a_hundred_are_looked_up(api: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_among: list[int] = []
    monkeypatch.setattr(nearly, "meant", lambda name, known: looked_among.append(len(list(known))))
    wide = {f"key{number}": 1 for number in range(1000)}
    saved(api, {"name": "g", "nodes": [wide] * 200, "links": []}, 422)
    assert looked_among == [nearly.MAX_HINTS] * nearly.MAX_HINTS


def test_a_graph_that_a_node_shall_run_is_named_where_it_belongs(api: FlaskClient) -> None:
    nodes = [{"id": "sub", "block_id": "AgentExecutor", "graph_id": "child"}]
    (told,) = saved(api, {"name": "g", "nodes": nodes, "links": []}, 422)["errors"]
    assert told["node"] == "sub"
    assert told["message"].endswith("; the graph that a node runs is named in its input_default")


def test_links_under_a_misspelt_key_are_not_lost_in_silence(api: FlaskClient) -> None:
    nodes = [{"id": "in", "block_id": "AgentInput", "input_default": {"name": "word"}}]
    (told,) = saved(api, {"name": "g", "nodes": nodes, "link": []})["warnings"]
    assert told["message"] == "a graph has no key 'link', it is ignored; did you mean 'links'?"


def test_an_export_whose_pins_are_gone_is_stored_and_every_one_is_named(api: FlaskClient) -> None:
    document = json.loads(json.dumps(CALLER)) | {"user_id": ""}
    document["links"][0]["sink_name"] = "gone"
    document["links"][1]["source_name"] = "vanished"
    graph = saved(api, document)
    assert graph["valid"] is False
    places = {(one["node"], one["pin"]) for one in graph["warnings"] if one["severity"] == "error"}
    assert places == {("sub", "gone"), ("sub", "vanished"), ("sub", "q")}
    refused = api.post(f"/api/v1/graphs/{graph['id']}/runs", json={"inputs": {"word": "x"}})
    assert refused.status_code == 422
    assert places <= {(one["node"], one["pin"]) for one in refused.json["errors"]}
    del document["user_id"]
    saved(api, document, 422)


def test_pins_that_were_renamed_are_renamed_and_the_graph_runs(api: FlaskClient, outcome: Callable[..., Any]) -> None:
    combine = {"id": "both", "block_id": "CombineTexts", "input_default": {"input2": " there"}}
    document = {
        "user_id": "",
        "nodes": [CALLER["nodes"][0], combine, CALLER["nodes"][2]],
        "links": [
            {"source_id": "in", "source_name": "result", "sink_id": "both", "sink_name": "input1"},
            {"source_id": "both", "source_name": "output", "sink_id": "out", "sink_name": "value"},
        ],
    }
    graph = saved(api, document)
    assert graph["valid"] is True
    assert {(one["node"], one["pin"]) for one in graph["warnings"]} == {("both", "input1"), ("both", "input2")}
    assert outcome(graph["id"], {"word": "hi"})["outputs"] == {"said": ["hi there"]}


def test_the_schema_of_documents_is_public_and_takes_the_examples(app: Any) -> None:
    schema: Any = app.test_client().get("/api/v1/schemas/graph").json
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert {"nodes", "links", "settings", "sub_graphs"} <= schema["$defs"]["Graph"]["properties"].keys()
    assert "retry" in schema["$defs"]["NodeSettings"]["properties"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from(["shout", "AgentExecutor", "", "\0", "\ud800", "x" * 300]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "nodes", "links", "sub_graphs", "subgraphs", "block_id", "input_default", "graph_id", "name"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@pytest.mark.parametrize("odd", [["shout"], {"shout": 1}, 1, 1.5, True, None, "", "\0", "x" * 300])
def test_a_sub_graph_that_is_named_by_no_text_is_no_sub_graph(api: FlaskClient, odd: Any) -> None:
    document: Any = copy.deepcopy(CALLER)
    document["nodes"][1]["input_default"]["graph_id"] = odd
    for path in ("graphs", "graphs/validate", "graphs/inputs", "graphs?import=true"):
        assert api.post(f"/api/v1/{path}", json=document).status_code < 500
    assert api.post("/api/v1/runs", json={"graph": document}).status_code < 500
    executed = api.post(f"/api/v1/blocks/{AGENT_BLOCK}/execute", json={"inputs": {"graph_id": odd}, "wait": 0})
    assert executed.status_code < 500


@given(document=st.dictionaries(st.sampled_from(["id", "nodes", "links", "sub_graphs", "subgraphs", "name"]), JSON))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_written_is_answered(api: FlaskClient, document: dict[str, Any]) -> None:
    reply = api.post("/api/v1/graphs/validate", json=document)
    assert reply.status_code < 500, (document, reply.json)


def test_a_failure_tells_which_item_it_was(
    api: FlaskClient, submit: Callable[..., UUID], work: Callable[..., None]
) -> None:
    """The pin itself gives the text."""
    outputs = {"why": "error", "which": "error_#_index", "what": "error_#_inputs_#_index", "node": "error_#_node"}
    nodes = [
        {"id": "each", "block_id": "StepThroughItems", "input_default": {"items": [0, 7, 1, 8]}},
        {"id": "pick", "block_id": "GetListItem", "input_default": {"list": ["a", "b"]}},
        *({"id": name, "block_id": "AgentOutput", "input_default": {"name": name}} for name in outputs),
    ]
    links = [("each", "item", "pick", "index"), *(("pick", pin, name, "value") for name, pin in outputs.items())]
    keys = ("source_id", "source_name", "sink_id", "sink_name")
    run_id = submit({"nodes": nodes, "links": [dict(zip(keys, link, strict=True)) for link in links]})
    work(run_id)
    run: Any = api.get(f"/api/v1/runs/{run_id}").json
    assert run["status"] == "COMPLETED", "the failures are handled"
    assert run["outputs"]["which"] == [2, 4]
    assert run["outputs"]["what"] == [7, 8]
    assert run["outputs"]["node"] == ["pick", "pick"]
    assert all(isinstance(text, str) for text in run["outputs"]["why"])
