"""Graphs over HTTP: a version never changes, and each owner sees their own."""

import threading
from uuid import uuid4


def test_a_stored_graph_reads_back_with_its_schemas(api, echo):
    saved = api.post("/api/v1/graphs", json=echo)
    assert saved.status_code == 201
    assert saved.json["version"] == 1
    read = api.get(saved.headers["Location"])
    assert read.status_code == 200
    assert read.json["id"] == saved.json["id"]
    assert [node["id"] for node in read.json["nodes"]] == ["in", "out"]
    assert "word" in read.json["input_schema"]["properties"]
    assert "said" in read.json["output_schema"]["properties"]


def test_a_graph_gets_an_id_of_ours_whatever_it_says(api, echo):
    theirs = str(uuid4())
    first = api.post("/api/v1/graphs", json={**echo, "id": theirs, "version": 7}).json
    second = api.post("/api/v1/graphs", json={**echo, "id": theirs}).json
    assert len({theirs, first["id"], second["id"]}) == 3
    assert first["version"] == 1


def test_another_document_makes_the_next_version(api, push, echo):
    graph = push()
    reply = api.put(f"/api/v1/graphs/{graph}", json={**echo, "description": "now described"})
    assert reply.status_code == 201
    assert reply.json["version"] == 2
    assert api.get(f"/api/v1/graphs/{graph}").json["description"] == "now described"
    assert api.get(f"/api/v1/graphs/{graph}?version=1").json["description"] == ""
    assert [one["version"] for one in api.get(f"/api/v1/graphs/{graph}/versions").json["items"]] == [2, 1]


def test_the_same_document_makes_no_version(api, push, echo, rows):
    graph = push()
    before = rows()
    reply = api.put(f"/api/v1/graphs/{graph}", json=echo)
    assert reply.status_code == 200
    assert (reply.json["version"], reply.json["created"]) == (1, False)
    assert rows() == before


def test_what_was_read_can_be_put_back_without_a_new_version(api, push):
    graph = push()
    document = api.get(f"/api/v1/graphs/{graph}").json
    assert api.put(f"/api/v1/graphs/{graph}", json=document).status_code == 200


def test_going_back_to_an_older_document_is_a_new_version(api, push, echo):
    graph = push()
    api.put(f"/api/v1/graphs/{graph}", json={**echo, "name": "other"})
    assert api.put(f"/api/v1/graphs/{graph}", json=echo).json["version"] == 3


def test_versions_that_come_at_the_same_moment_are_all_stored(app, api, push, echo):
    graph, count = push(), 6
    together, replies = threading.Barrier(count), []

    def put(number):
        client = app.test_client()
        client.environ_base.update(api.environ_base)
        together.wait()
        replies.append(client.put(f"/api/v1/graphs/{graph}", json={**echo, "description": f"number {number}"}))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [reply.status_code for reply in replies] == [201] * count
    assert sorted(reply.json["version"] for reply in replies) == list(range(2, count + 2))


def test_a_deleted_graph_is_gone_and_its_runs_are_not(api, push, work):
    graph = push()
    run = api.post(f"/api/v1/graphs/{graph}/runs", json={"inputs": {"word": "hi"}}).json["id"]
    refused = api.delete(f"/api/v1/graphs/{graph}")
    assert refused.status_code == 409
    assert refused.json["detail"] == "runs of this graph that have not ended: 1; wait for them, or cancel them"
    work(run)
    assert api.delete(f"/api/v1/graphs/{graph}").status_code == 204
    assert api.get(f"/api/v1/graphs/{graph}").status_code == 404
    assert api.post(f"/api/v1/graphs/{graph}/runs", json={}).status_code == 404
    assert api.get("/api/v1/graphs").json["items"] == []
    assert api.get(f"/api/v1/runs/{run}").json["outputs"] == {"said": ["hi"]}


def test_graphs_that_came_with_a_run_are_not_listed(api, submit):
    submit()
    assert api.get("/api/v1/graphs").json["items"] == []


def test_validation_stores_nothing_and_names_everything(api, echo, rows):
    before = rows()
    echo["nodes"][0]["block_id"] = "no such block"
    echo["links"][0]["sink_name"] = "nothing"
    report = api.post("/api/v1/graphs/validate", json=echo)
    assert report.status_code == 200
    assert report.json["valid"] is False
    places = {(one["node"], one["pin"]) for one in report.json["problems"] if one["severity"] == "error"}
    assert {("in", None), ("out", "nothing")} <= places
    assert rows() == before


def test_validation_of_a_good_graph_finds_nothing(api, echo):
    assert api.post("/api/v1/graphs/validate", json=echo).json == {"valid": True, "problems": []}


def test_validation_warns_of_a_graph_that_a_node_would_run_and_that_is_not_there(api, stranger, echo, push):
    anothers = stranger.post("/api/v1/graphs", json=echo).json["id"]
    document = {
        "name": "runs it",
        "nodes": [{"id": "sub", "block_id": "AgentExecutor", "input_default": {}}],
        "links": [],
    }
    for graph_id, warned in ((str(push()), False), (anothers, True)):
        document["nodes"][0]["input_default"] = {"graph_id": graph_id}
        report = api.post("/api/v1/graphs/validate", json=document).json
        told = [one["message"] for one in report["problems"] if one["node"] == "sub"]
        assert any(f"there is no graph {graph_id}" in message for message in told) is warned, report


def test_lists_come_in_pages_the_newest_first(api, echo):
    names = [f"graph {number}" for number in range(5)]
    for name in names:
        api.post("/api/v1/graphs", json={**echo, "name": name})
    seen, query = [], "?limit=2"
    while True:
        page = api.get(f"/api/v1/graphs{query}").json
        assert len(page["items"]) <= 2
        seen += [graph["name"] for graph in page["items"]]
        if page["next_cursor"] is None:
            break
        query = f"?limit=2&after={page['next_cursor']}"
    assert seen == names[::-1]


def test_nobody_sees_anothers_graph(api, stranger, push, echo):
    graph = push()
    path = f"/api/v1/graphs/{graph}"
    assert stranger.get(path).status_code == 404
    assert stranger.get(f"{path}/versions").status_code == 404
    assert stranger.put(path, json=echo).status_code == 404
    assert stranger.delete(path).status_code == 404
    assert stranger.post(f"{path}/runs", json={}).status_code == 404
    assert stranger.get("/api/v1/graphs").json["items"] == []
    assert api.get(path).status_code == 200
