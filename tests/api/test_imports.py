"""Graphs that come from elsewhere and go elsewhere, over HTTP."""

import json
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from agentflow.blocks import registry
from agentflow.graph.model import AGENT_BLOCK
from agentflow.services import plans
from agentflow.services.transaction import transaction

EXPORTS = Path(__file__).parent.parent / "graph" / "exports"
NUMBER = "96dae2bb-97a2-41c2-bd2f-13a3b5a8ea98"
MISSING = "f3a8f7e1-4b1d-4e5f-9f2a-7c3d5a2e6b4c"
LOST = "d2c1a5c0-1111-4222-8333-944455556666"


def export_of(name):
    return json.loads((EXPORTS / f"{name}.json").read_text())


@pytest.fixture
def take(api):
    """Imports a document and gives what was said of it."""

    def imported(document, query=""):
        reply = api.post(f"/api/v1/graphs{query}", json=document)
        assert reply.status_code == 201, reply.json
        return reply.json

    return imported


@pytest.fixture
def read(api):
    """A graph's document."""

    def document(graph_id, suffix=""):
        reply = api.get(f"/api/v1/graphs/{graph_id}{suffix}")
        assert reply.status_code == 200, reply.json
        return reply.json

    return document


def references(graph):
    return [node["input_default"]["graph_id"] for node in graph["nodes"] if node["block_id"] == AGENT_BLOCK]


def agent(node_id, graph_id, version=None, inputs=(), outputs=()):
    schemas = {"input_schema": {name: {} for name in inputs}, "output_schema": {name: {} for name in outputs}}
    default = {"graph_id": str(graph_id), "graph_version": version}
    default |= {key: {"type": "object", "properties": properties} for key, properties in schemas.items()}
    return {"id": node_id, "block_id": AGENT_BLOCK, "input_default": default}


def caller_of(graph_id, echo, version=None):
    """A graph that gives what another one makes of what it gets."""
    links = [("in", "result", "sub", "word"), ("sub", "said", "out", "value")]
    names = ("source_id", "source_name", "sink_id", "sink_name")
    nodes = [*echo["nodes"], agent("sub", graph_id, version, ["word"], ["said"])]
    return {**echo, "nodes": nodes, "links": [dict(zip(names, link, strict=True)) for link in links]}


def test_an_export_of_today_is_stored_with_its_sub_graphs(api, take, read):
    document = export_of("current")
    saved = take(document)
    assert (saved["valid"], saved["warnings"], saved["version"]) == (True, [], 1)
    assert [graph["id"] for graph in api.get("/api/v1/graphs").json["items"]] == [saved["id"]], "parts are not listed"
    stored = read(saved["id"])
    first, second = stored["sub_graphs"]
    given = {document["id"], *(part["id"] for part in document["sub_graphs"])}
    assert given.isdisjoint({saved["id"], first["id"], second["id"]})
    assert references(stored) == [first["id"]]
    assert references(first) == [second["id"]]
    assert references(second) == [first["id"]], "parts may run each other"
    assert read(first["id"])["name"] == "Decorate"


def test_an_export_of_today_does_what_it_did(take, outcome):
    run = outcome(take(export_of("current"))["id"])
    assert run["status"] == "COMPLETED", run
    assert run["outputs"] == {"decorated": ["* PEAR *", "* PLUM *"]}


def test_an_export_of_2024_is_brought_up_to_date(take, read):
    saved = take(export_of("of_2024"))
    assert (saved["valid"], saved["warnings"]) == (True, [])
    stored = read(saved["id"])
    assert "subgraphs" not in stored
    assert references(stored) == [stored["sub_graphs"][0]["id"]]
    (sub,) = (node["input_default"] for node in stored["nodes"] if node["block_id"] == AGENT_BLOCK)
    assert sub["inputs"] == {}
    assert "data" not in sub


def test_an_export_of_2024_does_what_it_did(take, outcome):
    run = outcome(take(export_of("of_2024"))["id"], {"n": 20})
    assert run["outputs"] == {"sum": [41]}, run


def test_an_export_that_gathers_what_a_for_each_made_does_what_it_did(take, outcome):
    """The gathering list feeds itself; a stored number, static behind a block that is not, lets the full list pass."""
    saved = take(export_of("collects"))
    assert saved["valid"] is True
    assert [one["pin"] for one in saved["warnings"]] == ["placeholder_values"], "what 2025 knew and we do not"
    run = outcome(saved["id"], {"topics": ["rain", "sun", "wind"]})
    assert run["status"] == "COMPLETED", run
    assert run["outputs"] == {"headlines": [["Breaking: rain (calm)", "Breaking: sun (calm)", "Breaking: wind (calm)"]]}
    assert [one["missing"] for one in run["stats"]["leftovers"]] == [{"entry": 1}], "the last list waits for no more"


def test_an_export_with_stored_constants_around_a_loop_does_what_it_did(take, outcome):
    run = outcome(take(export_of("counts"))["id"])
    assert run["outputs"] == {"seen": [1.0, 2.0, 3.0, 4.0, 5.0], "final": [5]}, run


def test_links_out_of_static_blocks_become_static(take, read):
    links = {link["source_name"]: link["is_static"] for link in read(take(export_of("of_2024"))["id"])["links"]}
    assert links["result"] is False, "the last one of that name leaves a block that is not static"
    stored = read(take(export_of("of_2024"))["id"])
    source = {node["id"]: node["block_id"] for node in stored["nodes"]}
    assert all(link["is_static"] is (source[link["source_id"]] == NUMBER) for link in stored["links"])


def test_an_export_with_missing_blocks_is_kept_and_does_not_run(api, take, read, rows):
    document = export_of("missing_blocks")
    saved = take(document)
    assert saved["valid"] is False
    told = {(one["message"], one["severity"]) for one in saved["warnings"]}
    assert (f"there is no block TranscribeYoutubeVideo here ('{MISSING}')", "error") in told
    assert (f"there is no block '{LOST}'", "error") in told
    assert ("a text is given that cannot be taken as number", "warning") in told
    (listed,) = api.get("/api/v1/graphs").json["items"]
    assert listed["valid"] is False
    assert len(read(saved["id"])["nodes"]) == 5
    assert len(read(saved["id"], "/export")["nodes"]) == 5
    before = rows()
    refused = api.post(f"/api/v1/graphs/{saved['id']}/runs", json={"inputs": {"question": "why"}})
    assert refused.status_code == 422
    assert {one["message"] for one in refused.json["errors"]} >= {message for message, kind in told if kind == "error"}
    assert rows() == before
    assert api.post("/api/v1/runs", json={"graph": document}).status_code == 422
    assert api.delete(f"/api/v1/graphs/{saved['id']}").status_code == 204


def with_a_misfit(echo):
    """A graph with a number that is none: refused of one's own documents, forgiven on import."""
    number = {"id": "n", "block_id": NUMBER, "input_default": {"name": "n", "value": "many"}}
    give = {"id": "give", "block_id": echo["nodes"][1]["block_id"], "input_default": {"name": "number"}}
    link = {"source_id": "n", "source_name": "result", "sink_id": "give", "sink_name": "value"}
    return {**echo, "nodes": [*echo["nodes"], number, give], "links": [*echo["links"], link], "user_id": ""}


@pytest.mark.parametrize("masks", [{}, {"out": {"value": "masked"}}])
def test_what_was_forgiven_on_import_does_not_keep_a_graph_from_running(take, outcome, echo, masks):
    saved = take(with_a_misfit(echo))
    assert [(one["node"], one["pin"], one["severity"]) for one in saved["warnings"]] == [("n", "value", "warning")]
    run = outcome(saved["id"], {"word": "hi"}, nodes_input_masks=masks)
    assert run["outputs"] == {"said": [masks["out"]["value"] if masks else "hi"], "number": [0]}


def test_what_was_forgiven_on_import_does_not_keep_an_inline_graph_from_running(api, submit, work, echo):
    run = submit(with_a_misfit(echo), {"word": "hi"})
    work(run)
    assert api.get(f"/api/v1/runs/{run}").json["outputs"] == {"said": ["hi"], "number": [0]}


def test_what_was_forgiven_on_import_does_not_keep_a_graph_from_being_run_by_another(take, push, outcome, echo):
    inner = take(with_a_misfit(echo))["id"]
    run = outcome(push(caller_of(inner, echo)), {"word": "hi"})
    assert (run["status"], run["outputs"]) == ("COMPLETED", {"said": ["hi"]})


def test_what_was_forgiven_on_import_does_not_keep_a_run_from_being_forked(api, take, outcome, work, echo):
    run = outcome(take(with_a_misfit(echo))["id"], {"word": "hi"})
    reply = api.post(f"/api/v1/runs/{run['id']}/fork", json={"from_node": "give", "inputs": {}})
    assert reply.status_code == 202, reply.json
    work(reply.json["id"])
    assert api.get(f"/api/v1/runs/{reply.json['id']}").json["outputs"] == {"said": ["hi"], "number": [0]}


def test_an_incomplete_graph_is_mended_by_another_document(api, take, echo, outcome):
    graph = take(export_of("missing_blocks"))["id"]
    reply = api.put(f"/api/v1/graphs/{graph}", json=echo)
    assert (reply.status_code, reply.json["valid"], reply.json["version"]) == (201, True, 2)
    assert outcome(graph, {"word": "hi"})["outputs"] == {"said": ["hi"]}


def test_an_incomplete_graph_runs_once_its_blocks_are_installed(api, take, echo, outcome, monkeypatch):
    part = {**echo, "id": str(uuid4())}
    document = {**echo, "sub_graphs": [part]}
    (known,) = {registry.get(node["block_id"]).id for node in echo["nodes"][:1]}
    look = registry.Registry.catalogue
    with monkeypatch.context() as patched:
        patched.setattr(registry.Registry, "catalogue", lambda self, id: None if id == known else look(self, id))
        saved = take(document, "?import=true")
        assert saved["valid"] is False
        assert api.put(f"/api/v1/graphs/{saved['id']}?import=true", json=document).json["valid"] is False
        run = api.post(f"/api/v1/graphs/{saved['id']}/runs", json={})
        assert run.status_code == 422
    again = api.put(f"/api/v1/graphs/{saved['id']}", json=document)
    assert (again.status_code, again.json["valid"], again.json["created"]) == (200, True, False)
    assert api.get("/api/v1/graphs").json["items"][0]["valid"] is True
    with transaction() as session:
        assert session.scalar(text("SELECT count(*) FROM graph_versions WHERE plan IS NULL")) == 0
        inner = UUID(api.get(f"/api/v1/graphs/{saved['id']}").json["sub_graphs"][0]["id"])
        assert plans.plan_of(session, inner, 1).nodes
    assert outcome(saved["id"], {"word": "hi"})["outputs"] == {"said": ["hi"]}


def test_a_graph_whose_block_is_gone_is_not_called_valid(api, take, echo, monkeypatch):
    """Nor one whose sub-graph needs it."""
    part = {**echo, "id": str(uuid4()), "nodes": [{**echo["nodes"][0], "block_id": "AgentNumberInput"}], "links": []}
    saved = [take(echo, "")["id"], take({**echo, "sub_graphs": [part]}, "")["id"]]
    gone = registry.id_of("AgentNumberInput")
    look = registry.Registry.catalogue

    def listed():
        return {one["id"]: one["valid"] for one in api.get("/api/v1/graphs").json["items"]}

    assert listed() == dict.fromkeys(saved, True)
    monkeypatch.setattr(registry.Registry, "catalogue", lambda self, id: None if id == gone else look(self, id))
    assert listed() == dict(zip(saved, (True, False), strict=True))


def test_a_document_of_ones_own_must_be_whole(api, echo):
    echo["nodes"][0]["block_id"] = LOST
    refused = api.post("/api/v1/graphs", json=echo)
    assert refused.status_code == 422
    assert api.post("/api/v1/graphs?import=true", json=echo).json["valid"] is False
    assert api.post("/api/v1/graphs?import=false", json=export_of("missing_blocks")).status_code == 422
    echo["links"][0]["sink_id"] = "nowhere"
    assert api.post("/api/v1/graphs?import=true", json=echo).status_code == 422, "only what is missing is forgiven"


def test_a_part_changes_with_its_graph_alone(api, take, read, echo):
    saved = take(export_of("current"))
    part = read(saved["id"])["sub_graphs"][0]["id"]
    for refused in (api.put(f"/api/v1/graphs/{part}", json=echo), api.delete(f"/api/v1/graphs/{part}")):
        assert refused.status_code == 409
        assert saved["id"] in refused.json["detail"]
    document = read(saved["id"])
    assert api.put(f"/api/v1/graphs/{saved['id']}", json=document).status_code == 200, "it says the same"
    document["sub_graphs"][1]["description"] = "louder"
    assert api.put(f"/api/v1/graphs/{saved['id']}", json=document).json["version"] == 2
    old, new = read(saved["id"], "?version=1"), read(saved["id"])
    assert {one["id"] for one in old["sub_graphs"]}.isdisjoint(one["id"] for one in new["sub_graphs"])
    assert references(new) == [new["sub_graphs"][0]["id"]]
    assert api.delete(f"/api/v1/graphs/{saved['id']}").status_code == 204
    assert api.get(f"/api/v1/graphs/{part}").status_code == 404


def test_a_graph_that_is_not_in_the_document_is_looked_for_among_ones_own(api, stranger, push, echo):
    own, nobodys = push(), uuid4()
    theirs = stranger.post("/api/v1/graphs", json=echo).json["id"]
    nodes = [agent("a", own, 1), agent("b", own, 2), agent("c", nobodys), agent("d", theirs, 1), agent("e", own)]
    part = {"id": str(uuid4()), "name": "inner", "nodes": [agent("f", nobodys, 1)]}
    saved = api.post("/api/v1/graphs", json={"name": "caller", "nodes": nodes, "sub_graphs": [part]})
    assert saved.status_code == 201
    expected = [
        ("b", f"graph {own} has no version 2 for this node to run"),
        ("c", f"there is no graph {nobodys} for this node to run"),
        ("d", f"there is no graph {theirs} for this node to run"),
        ("f", f"sub-graph 'inner': there is no graph {nobodys} for this node to run"),
    ]
    told = [(one["node"], one["message"]) for one in saved.json["warnings"] if one["pin"] == "graph_id"]
    assert told == expected
    refused = api.post(f"/api/v1/graphs/{saved.json['id']}/runs", json={})
    assert refused.status_code == 422
    assert [(one["node"], one["message"]) for one in refused.json["errors"]] == expected[:3]


def test_a_graph_may_run_itself(take, read):
    own = str(uuid4())
    node = {"id": "x", "block_id": NUMBER, "input_default": {"name": "n"}}
    saved = take({"id": own, "version": 4, "nodes": [agent("me", own, 4), agent("older", own, 3), node]})
    stored = read(saved["id"])
    assert references(stored) == [saved["id"], own], "a version that is not here is another graph"
    assert stored["nodes"][0]["input_default"]["graph_version"] == 1
    assert [warning["node"] for warning in saved["warnings"]] == ["older"]


def test_what_was_exported_can_be_imported_and_says_the_same(take, read):
    saved = take(export_of("current"))
    exported = read(saved["id"], "/export")
    assert exported["user_id"] == ""
    assert {exported["id"], *(part["id"] for part in exported["sub_graphs"])}.isdisjoint(
        {saved["id"], *(part["id"] for part in read(saved["id"])["sub_graphs"])}
    )
    again = take(exported)
    assert again["valid"] is True

    def plain(graph):
        names = {part["id"]: part["name"] for part in (graph, *graph["sub_graphs"])}
        numbers = {node["id"]: number for number, node in enumerate(graph["nodes"])}
        return (
            graph["name"],
            [(node["block_id"], node["metadata"]) for node in graph["nodes"]],
            [names.get(one) for one in references(graph)],
            [(numbers[link["source_id"]], link["sink_name"], numbers[link["sink_id"]]) for link in graph["links"]],
            graph["input_schema"],
        )

    before, after = read(saved["id"]), read(again["id"])
    for one, other in zip([before, *before["sub_graphs"]], [after, *after["sub_graphs"]], strict=True):
        assert plain(one) == plain(other)


def test_an_export_takes_along_all_graphs_that_it_runs(take, read, push, echo):
    inner = push()
    middle = push({**caller_of(inner, echo), "name": "middle"})
    outer = push({**caller_of(middle, echo, 1), "name": "outer"})
    exported = read(outer, "/export")
    assert [part["name"] for part in exported["sub_graphs"]] == ["middle", "echo"]
    assert references(exported) == [exported["sub_graphs"][0]["id"]]
    assert references(exported["sub_graphs"][0]) == [exported["sub_graphs"][1]["id"]]
    assert {str(inner), str(middle), str(outer)}.isdisjoint(set(json.dumps(exported).split('"')))
    saved = take(exported)
    assert saved["warnings"] == []


def test_an_export_with_all_graphs_that_it_runs_does_what_they_did(take, read, push, echo, outcome):
    exported = read(push(caller_of(push(caller_of(push(), echo)), echo)), "/export")
    assert outcome(take(exported)["id"], {"word": "hi"})["outputs"] == {"said": ["hi"]}


def test_secrets_stay_behind(take, read, echo):
    echo["nodes"][0]["input_default"] |= {"secret": True, "value": "hush"}
    echo["nodes"][0]["webhook_id"] = "hook"
    echo["nodes"][1]["webhook"] = {"id": "hook", "secret": "hush"}
    part = {
        "name": "part",
        "nodes": [{"id": "m", "block_id": LOST, "input_default": {"headers": {"X-Api-Key": "hush"}}}],
    }
    saved = take({**echo, "sub_graphs": [part]}, "?import=true")
    exported = read(saved["id"], "/export")
    assert "hush" not in json.dumps(exported)
    assert [node["webhook_id"] for node in exported["nodes"]] == [None, None]
    assert "webhook" not in exported["nodes"][1]
    assert exported["sub_graphs"][0]["nodes"][0]["input_default"] == {"headers": {}}


def test_older_versions_can_be_exported(api, push, read, echo):
    graph = push()
    api.put(f"/api/v1/graphs/{graph}", json={**echo, "name": "newer"})
    assert [read(graph, f"/export{query}")["name"] for query in ("", "?version=1")] == ["newer", "echo"]
    assert api.get(f"/api/v1/graphs/{graph}/export?version=3").status_code == 404


def test_nobody_exports_anothers_graph(stranger, push):
    assert stranger.get(f"/api/v1/graphs/{push()}/export").status_code == 404


def test_validation_of_an_export_names_what_is_missing(api):
    report = api.post("/api/v1/graphs/validate", json=export_of("missing_blocks")).json
    assert report["valid"] is False
    assert [one["severity"] for one in report["problems"]] == ["error", "error", "warning"]


def test_sub_graphs_are_counted_and_not_nested_without_end(environment, api, echo, monkeypatch):
    nested = {**echo}
    for _ in range(60):
        nested = {**echo, "sub_graphs": [nested]}
    refused = api.post("/api/v1/graphs", json=nested)
    assert refused.status_code == 422
    assert refused.json["errors"][0]["message"] == "sub-graphs are nested more than 50 levels deep"
    monkeypatch.setattr(environment, "max_nodes", 5)
    inner = {**echo, "subgraphs": [echo]}
    assert api.post("/api/v1/graphs", json={**echo, "sub_graphs": [inner]}).status_code == 413
    assert api.post("/api/v1/graphs", json={**echo, "sub_graphs": [echo]}).status_code == 201
