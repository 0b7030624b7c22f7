"""Graphs from elsewhere come in as they are, or say what they lack; graphs for elsewhere go out without secrets."""

from typing import Any
from uuid import uuid4

import pytest

AGENT = "e189baac-8c20-45a1-94a7-55177ea42565"
INPUT = "c0a8e994-ebf1-4a9c-a4d8-89d09c86741b"
NUMBER_INPUT = "96dae2bb-97a2-41c2-bd2f-13a3b5a8ea98"
OUTPUT = "363ae599-353e-4804-937e-b2ee3cef3da4"
UNKNOWN = "11111111-2222-4333-8444-555555555555"


def exported(*extra: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A document as the other system exports it today: computed fields, null fields, links repeated in the nodes."""
    link = {
        "id": str(uuid4()),
        "source_id": "in",
        "sink_id": "out",
        "source_name": "result",
        "sink_name": "value",
        "is_static": True,
    }
    nodes = [
        {
            "id": "in",
            "block_id": INPUT,
            "input_default": {"name": "word", "value": None},
            "metadata": {"position": {"x": 1.5, "y": 2}},
            "input_links": [],
            "output_links": [link],
            "webhook_id": None,
            "graph_id": str(uuid4()),
            "graph_version": 3,
        },
        {
            "id": "out",
            "block_id": OUTPUT,
            "input_default": {"name": "said"},
            "metadata": None,
            "input_links": [link],
            "output_links": [],
        },
        *extra,
    ]
    return {
        "id": str(uuid4()),
        "version": 3,
        "is_active": True,
        "name": "Exported",
        "description": "from elsewhere",
        "instructions": None,
        "recommended_schedule_cron": None,
        "forked_from_id": None,
        "forked_from_version": None,
        "user_id": "",
        "created_at": "2025-06-01T12:00:00Z",
        "nodes": nodes,
        "links": [link],
        "sub_graphs": [],
        "input_schema": {"type": "object", "properties": {"wrong": {}}, "required": []},
        "output_schema": {},
        "credentials_input_schema": {},
        "has_external_trigger": False,
        "trigger_setup_info": None,
        **changes,
    }


def test_an_export_of_today_is_stored_with_schemas_of_our_own(api, work):
    saved = api.post("/api/v1/graphs", json=exported())
    assert (saved.status_code, saved.json["valid"], saved.json["warnings"]) == (201, True, [])
    graph = api.get(saved.headers["Location"]).json
    assert list(graph["input_schema"]["properties"]) == ["word"]
    assert graph["input_schema"]["required"] == ["word"]
    assert graph["recommended_schedule_cron"] is None, "unknown fields are kept"
    run = api.post(f"/api/v1/graphs/{saved.json['id']}/runs", json={"inputs": {"word": "hi"}}).json["id"]
    work(run)
    assert api.get(f"/api/v1/runs/{run}").json["outputs"] == {"said": ["hi"]}


def test_an_export_of_2024_lacks_much_and_is_stored_all_the_same(api, work):
    document = exported()
    old = {key: document[key] for key in ("id", "version", "name", "description", "nodes")}
    old["links"] = [{key: link[key] for key in link if key != "is_static"} for link in document["links"]]
    old["nodes"] = [
        {key: node[key] for key in node if key not in ("output_links", "webhook_id")} for node in old["nodes"]
    ]
    old["subgraphs"] = []
    saved = api.post("/api/v1/graphs", json=old)
    assert (saved.status_code, saved.json["valid"]) == (201, True)
    run = api.post(f"/api/v1/graphs/{saved.json['id']}/runs", json={"inputs": {"word": "hi"}}).json["id"]
    work(run)
    assert api.get(f"/api/v1/runs/{run}").json["outputs"] == {"said": ["hi"]}


def test_an_export_with_blocks_that_are_not_here_is_stored_and_names_them(api):
    document = exported({"id": "odd", "block_id": UNKNOWN, "input_default": {}, "input_links": []})
    saved = api.post("/api/v1/graphs", json=document)
    assert (saved.status_code, saved.json["valid"]) == (201, False)
    (warning,) = saved.json["warnings"]
    assert (warning["node"], UNKNOWN in warning["message"]) == ("odd", True)
    (listed,) = api.get("/api/v1/graphs").json["items"]
    assert listed["valid"] is False
    assert api.get(saved.headers["Location"]).json["nodes"][2]["block_id"] == UNKNOWN
    assert api.get(f"/api/v1/graphs/{saved.json['id']}/export").json["nodes"][2]["block_id"] == UNKNOWN
    refused = api.post(f"/api/v1/graphs/{saved.json['id']}/runs", json={"inputs": {"word": "hi"}})
    assert refused.status_code == 422
    assert UNKNOWN in str(refused.json["errors"])
    mended = {**document, "nodes": document["nodes"][:2]}
    assert api.put(f"/api/v1/graphs/{saved.json['id']}", json=mended).json["valid"] is True
    assert api.get("/api/v1/graphs").json["items"][0]["valid"] is True


def test_a_document_of_ones_own_with_an_unknown_block_is_refused_unless_it_says_that_it_is_imported(api, echo):
    echo["nodes"].append({"id": "odd", "block_id": UNKNOWN})
    assert api.post("/api/v1/graphs", json=echo).status_code == 422
    assert api.post("/api/v1/graphs?import=false", json=exported(*echo["nodes"][2:])).status_code == 422
    assert api.post("/api/v1/graphs?import=true", json=echo).json["valid"] is False


def test_what_does_not_hang_together_is_refused_even_of_an_export(api):
    document = exported()
    document["links"][0]["sink_id"] = "nowhere"
    refused = api.post("/api/v1/graphs", json=document)
    assert refused.status_code == 422
    assert "nowhere" in str(refused.json["errors"])


def test_a_literal_that_does_not_fit_is_an_error_at_save_and_a_warning_on_import(api, echo):
    odd = {"id": "n", "block_id": NUMBER_INPUT, "input_default": {"name": "n", "value": "many"}, "input_links": []}
    saved = api.post("/api/v1/graphs", json=exported(odd))
    assert (saved.status_code, saved.json["valid"]) == (201, True)
    assert [(one["node"], one["pin"], one["severity"]) for one in saved.json["warnings"]] == [("n", "value", "warning")]
    del odd["input_links"]
    echo["nodes"].append(odd)
    assert api.post("/api/v1/graphs", json=echo).status_code == 422


def with_parts(*parts: dict[str, Any], **inputs: Any) -> dict[str, Any]:
    """An export whose node `sub` runs the first of `parts`."""
    first = {"graph_id": parts[0]["id"], "graph_version": 3, "inputs": {}, "input_schema": {}, "output_schema": {}}
    node = {"id": "sub", "block_id": AGENT, "input_default": {**first, **inputs}, "input_links": []}
    return exported(node, sub_graphs=list(parts))


def reference(document: dict[str, Any], node: str) -> tuple[str, int]:
    (found,) = (one["input_default"] for one in document["nodes"] if one["id"] == node)
    return found["graph_id"], found["graph_version"]


def test_sub_graphs_become_graphs_of_their_own_under_new_ids(api, rows):
    inner = exported(name="Inner")
    saved = api.post("/api/v1/graphs", json=with_parts(inner)).json
    graph = api.get(f"/api/v1/graphs/{saved['id']}").json
    inner_id, version = reference(graph, "sub")
    assert inner_id != inner["id"]
    assert version == 1
    assert graph["sub_graphs"][0]["id"] == inner_id
    assert api.get(f"/api/v1/graphs/{inner_id}").json["name"] == "Inner"
    assert [one["id"] for one in api.get("/api/v1/graphs").json["items"]] == [saved["id"]], "parts are not listed"
    before = rows()
    assert api.put(f"/api/v1/graphs/{saved['id']}", json=graph).status_code == 200, "the same again"
    assert rows() == before
    assert api.delete(f"/api/v1/graphs/{saved['id']}").status_code == 204
    assert api.get(f"/api/v1/graphs/{inner_id}").status_code == 404


def test_references_in_a_circle_are_kept(api):
    one, two = exported(name="One"), exported(name="Two")
    one["nodes"].append({"id": "sub", "block_id": AGENT, "input_default": {"graph_id": two["id"], "graph_version": 1}})
    document = with_parts(one, two)
    two["nodes"].append(
        {"id": "up", "block_id": AGENT, "input_default": {"graph_id": document["id"], "graph_version": 3}}
    )
    for node in (*one["nodes"][2:], *two["nodes"][2:]):
        node["input_default"] |= {"inputs": {}, "input_schema": {}, "output_schema": {}}
    saved = api.post("/api/v1/graphs", json=document)
    assert saved.status_code == 201, saved.json
    graph = api.get(saved.headers["Location"]).json
    first, _ = reference(graph, "sub")
    second, _ = reference(api.get(f"/api/v1/graphs/{first}").json, "sub")
    assert reference(api.get(f"/api/v1/graphs/{second}").json, "up") == (graph["id"], 1)


def test_a_graph_that_is_not_here_is_warned_about_at_save_and_refused_at_submission(api):
    elsewhere = exported(name="Elsewhere")
    document = {**with_parts(elsewhere), "sub_graphs": []}
    saved = api.post("/api/v1/graphs", json=document).json
    assert [(one["node"], one["severity"]) for one in saved["warnings"]] == [("sub", "warning")]
    refused = api.post(f"/api/v1/graphs/{saved['id']}/runs", json={"inputs": {"word": "x"}})
    assert refused.status_code == 422
    assert [(one["node"], one["pin"]) for one in refused.json["errors"]] == [("sub", "graph_id")]


def test_an_export_comes_in_again_and_says_the_same(api, work):
    saved = api.post("/api/v1/graphs", json=with_parts(exported(name="Inner"))).json
    out = api.get(f"/api/v1/graphs/{saved['id']}/export").json
    assert out["user_id"] == ""
    ids = {saved["id"], *(node["id"] for node in api.get(f"/api/v1/graphs/{saved['id']}").json["nodes"])}
    assert ids.isdisjoint({out["id"], *(node["id"] for node in out["nodes"])})
    again = api.post("/api/v1/graphs", json=out).json
    assert (again["valid"], again["id"] != out["id"]) == (True, True)


@pytest.mark.parametrize("suffix", ["", "/export"])
def test_graphs_of_others_do_not_exist(api, stranger, push, suffix):
    assert stranger.get(f"/api/v1/graphs/{push()}{suffix}").status_code == 404
