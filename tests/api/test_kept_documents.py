"""What a document says comes in, is shown and goes out as it was said, but for ids, secrets and what is computed."""

import json
from copy import deepcopy
from uuid import uuid4

import pytest

from agentflow.graph.model import AGENT_BLOCK

INPUT = "c0a8e994-ebf1-4a9c-a4d8-89d09c86741b"
OUTPUT = "363ae599-353e-4804-937e-b2ee3cef3da4"
TEMPLATE = "db7d8f02-2f44-4c55-ab7a-eae0941f0c30"
REVIEW = "8b2a7b3c-6e9d-4a5f-8c1b-2e3f4a5b6c7d"
TRIGGER = "8fa8c167-2002-47ce-aba8-97572fc5d387"
MAIL = "4335878a-394e-4e67-adf2-919877ff49ae"
SEARCH = "87840993-2053-44b7-8da4-187ad4ee518c"

SAID = {
    "description": "what it does",
    "instructions": "how to use it",
    "is_active": False,
    "recommended_schedule_cron": "0 9 * * 1",
    "forked_from_id": "6f1f65bb-5d73-4b20-a7b8-9a0b0e0d0c0b",
    "forked_from_version": 7,
    "created_at": "2025-06-01T12:00:00Z",
    "is_template": True,
    "has_sensitive_action": True,
    "trigger_setup_info": {"provider": "github"},
    "of_tomorrow": {"unheard": ["of", None, 1.5]},
}
"""What a graph may say of itself beside what it does."""


def keeps(shown, said):
    return {key: shown.get(key) for key in said} == said


@pytest.mark.parametrize("suffix", ["", "/export"])
def test_what_a_graph_says_of_itself_is_kept_at_every_level(api, echo, suffix):
    odd = {"of_tomorrow": [{"deep": True}]}
    echo["nodes"][0] |= odd | {"metadata": {"position": {"x": 1.5, "y": -2}, "customized_name": "Word", "free": [None]}}
    echo["links"][0] |= odd
    inner = deepcopy(echo) | SAID
    saved = api.post("/api/v1/graphs", json=echo | SAID | {"sub_graphs": [inner]}).json
    root = api.get(f"/api/v1/graphs/{saved['id']}{suffix}").json
    for shown in (root, *root["sub_graphs"]):
        assert keeps(shown, SAID)
        assert keeps(shown["nodes"][0], odd)
        assert shown["nodes"][0]["metadata"] == echo["nodes"][0]["metadata"]
        assert keeps(shown["links"][0], odd)
        assert shown["nodes"][0]["output_links"] == shown["nodes"][1]["input_links"] == shown["links"]


def test_an_export_names_no_user(api, echo):
    inner = {**deepcopy(echo), "user_id": str(uuid4())}
    saved = api.post("/api/v1/graphs", json={**echo, "user_id": str(uuid4()), "sub_graphs": [inner]}).json
    exported = api.get(f"/api/v1/graphs/{saved['id']}/export").json
    assert exported["user_id"] == ""
    assert [part.get("user_id", "") for part in exported["sub_graphs"]] == [""]


@pytest.mark.parametrize("suffix", ["", "/export"])
def test_sub_graphs_of_all_levels_are_shown_in_one_list(api, echo, suffix):
    def level(name, *parts):
        return {**deepcopy(echo), "name": name, "id": str(uuid4()), "sub_graphs": list(parts)}

    document = level("root", level("a", level("b", level("c"))), level("d"))
    saved = api.post("/api/v1/graphs", json=document).json
    shown = api.get(f"/api/v1/graphs/{saved['id']}{suffix}").json["sub_graphs"]
    assert [(part["name"], part["sub_graphs"]) for part in shown] == [(name, []) for name in "abcd"]


@pytest.mark.parametrize("suffix", ["", "/export"])
def test_links_out_of_static_blocks_are_static_at_every_level(api, echo, suffix):
    echo["links"].append({"source_id": "fill", "source_name": "output", "sink_id": "out", "sink_name": "name"})
    echo["nodes"].append({"id": "fill", "block_id": TEMPLATE, "input_default": {"format": "x"}})
    for link in echo["links"]:
        link["is_static"] = False
    saved = api.post("/api/v1/graphs", json={**echo, "sub_graphs": [{**deepcopy(echo), "id": str(uuid4())}]}).json
    root = api.get(f"/api/v1/graphs/{saved['id']}{suffix}").json
    for shown in (root, *root["sub_graphs"]):
        assert [link["is_static"] for link in shown["links"]] == [True, False]


def test_the_nodes_of_a_stored_graph_name_it_and_its_version(api, echo):
    for node in echo["nodes"]:
        node |= {"graph_id": str(uuid4()), "graph_version": 9}
    graph = api.post("/api/v1/graphs", json={**echo, "sub_graphs": [deepcopy(echo)]}).json["id"]
    for suffix in ("", "/export"):
        root = api.get(f"/api/v1/graphs/{graph}{suffix}").json
        for shown in (root, *root["sub_graphs"]):
            named = {(node["graph_id"], node["graph_version"]) for node in shown["nodes"]}
            assert named == {(shown["id"], shown["version"])}


@pytest.mark.parametrize(
    ("node", "trigger", "person"),
    [
        ({"block_id": INPUT, "input_default": {"name": "x"}}, False, False),
        ({"block_id": TRIGGER}, True, False),
        ({"block_id": REVIEW}, False, True),
    ],
)
def test_what_an_import_claims_of_its_nodes_is_computed_anew(api, echo, node, trigger, person):
    claims = {
        "has_external_trigger": not trigger,
        "has_human_in_the_loop": not person,
        "input_schema": {"properties": {"claimed": {}}},
        "output_schema": {"properties": {"claimed": {}}},
        "credentials_input_schema": {"properties": {"claimed": {}}},
    }
    echo["nodes"].append({"id": "more", **node})
    saved = api.post("/api/v1/graphs", json=echo | claims).json
    for suffix in ("", "/export"):
        shown = api.get(f"/api/v1/graphs/{saved['id']}{suffix}").json
        assert (shown["has_external_trigger"], shown["has_human_in_the_loop"]) == (trigger, person)
        for schema in ("input_schema", "output_schema", "credentials_input_schema"):
            assert "claimed" not in shown[schema]["properties"]


def test_credentials_are_asked_for_once_for_all_levels(api, echo):
    inner = {"id": str(uuid4()), "name": "inner", "nodes": [{"id": "m", "block_id": MAIL}]}
    middle = {"id": str(uuid4()), "name": "middle", "nodes": [{"id": "s", "block_id": SEARCH}], "sub_graphs": [inner]}
    echo["nodes"] += [{"id": "m", "block_id": MAIL}, {"id": "n", "block_id": MAIL}]
    saved = api.post("/api/v1/graphs", json={**echo, "sub_graphs": [middle]}).json
    schema = api.get(f"/api/v1/graphs/{saved['id']}").json["credentials_input_schema"]
    keys = ["smtp_user_password_credentials", "jina_api_key_credentials"]
    assert (list(schema["properties"]), schema["required"]) == (keys, keys[:1])


def test_the_credentials_of_ones_own_graphs_that_a_graph_runs_are_asked_for(api, push, echo):
    def caller(of, **more):
        given = {"graph_id": str(of), "inputs": {}, "input_schema": {}, "output_schema": {}, **more}
        return {"name": "caller", "nodes": [{"id": "sub", "block_id": AGENT_BLOCK, "input_default": given}]}

    lowest = push({"name": "mail", "nodes": [{"id": "m", "block_id": MAIL}]})
    graph = push(caller(push(caller(lowest)), graph_version=1))
    document = api.get(f"/api/v1/graphs/{graph}").json
    assert document["credentials_input_schema"]["required"] == ["smtp_user_password_credentials"]
    assert api.put(f"/api/v1/graphs/{graph}", json=document).status_code == 200, "it says the same"


def test_an_export_leaves_the_secrets_of_all_levels_behind(api, echo):
    inner = {"id": str(uuid4()), "name": "inner", **secretive(echo)}
    middle = {"id": str(uuid4()), "name": "middle", **secretive(echo), "sub_graphs": [inner]}
    runs = {"graph_id": middle["id"], "graph_version": 1, "input_schema": {}, "output_schema": {}}
    node = {"id": "sub", "block_id": AGENT_BLOCK, "input_default": {**runs, "inputs": {"api_key": "hush"}}}
    document = {"name": "root", **secretive(echo, node), "sub_graphs": [middle]}
    saved = api.post("/api/v1/graphs", json=document).json
    assert "hush" in json.dumps(api.get(f"/api/v1/graphs/{saved['id']}").json), "its owner sees what they gave"
    exported = api.get(f"/api/v1/graphs/{saved['id']}/export").json
    assert "hush" not in json.dumps(exported)
    parts = [exported, *exported["sub_graphs"]]
    assert [part["name"] for part in parts] == ["root", "middle", "inner"]
    for part in parts:
        assert all(node["webhook_id"] is None for node in part["nodes"])
        assert part["nodes"][2]["input_default"] == {"format": "{{a}}", "values": {"deep": [{"a": 1}]}, "values_#_b": 2}


def secretive(echo, *more):
    """Nodes that hold secrets in every place where there can be some."""
    word, said = deepcopy(echo["nodes"])
    word |= {"webhook_id": "hush", "input_default": {"name": "word", "secret": True, "value": "hush"}}
    literals = {
        "format": "{{a}}",
        "values": {"password": "hush", "deep": [{"a": 1, "api_key": "hush"}]},
        "values_#_token": "hush",
        "values_#_b": 2,
    }
    return {"nodes": [word, said, {"id": "fill", "block_id": TEMPLATE, "input_default": literals}, *more]}


@pytest.mark.parametrize("flag", [True, "true", 1])
def test_a_secret_is_one_however_its_flag_is_written(api, echo, outcome, flag):
    echo["nodes"][0]["input_default"] |= {"secret": flag, "value": "hush"}
    graph = api.post("/api/v1/graphs", json=echo).json["id"]
    run = outcome(graph)["id"]
    schema = api.get(f"/api/v1/graphs/{graph}").json["input_schema"]
    shown = [schema, api.get(f"/api/v1/graphs/{graph}/export").json]
    (word,) = api.get(f"/api/v1/runs/{run}/nodes?node=in").json["items"]
    assert "hush" not in json.dumps([*shown, word])
    assert schema["properties"]["word"]["secret"] is True
