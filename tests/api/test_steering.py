"""Runs are steered over HTTP, and what waits for the outside is reached."""

import threading
from uuid import uuid4

import pytest
from sqlalchemy import text

from agentflow.blocks import registry
from agentflow.services import steering
from agentflow.services.transaction import transaction

STORE = "1ff065e9-88e8-4358-9d82-8dc91f622ba9"
INDEX = "262ca24c-1025-43cf-a578-534e23234e97"  # GetListItem: fails beyond the end


@pytest.fixture
def failed(api, work):
    """A run that failed at its node `get`, after `keep`."""
    document = {
        "name": "fails",
        "nodes": [
            {"id": "keep", "block_id": STORE, "input_default": {"input": [1]}},
            {"id": "get", "block_id": INDEX, "input_default": {"index": 5}},
            {"id": "beside", "block_id": STORE, "input_default": {"input": 2}},
        ],
        "links": [{"source_id": "keep", "source_name": "output", "sink_id": "get", "sink_name": "list"}],
    }
    run = api.post("/api/v1/runs", json={"graph": document}).json["id"]
    work(run)
    assert api.get(f"/api/v1/runs/{run}").json["status"] == "FAILED"
    return run


def test_a_run_is_paused_and_resumed(api, echo, work):
    run = api.post("/api/v1/runs", json={"graph": echo, "inputs": {"word": "hi"}}).json["id"]
    paused = api.post(f"/api/v1/runs/{run}/pause")
    assert (paused.status_code, paused.json["paused_at"] is not None) == (200, True)
    work(run)
    assert api.get(f"/api/v1/runs/{run}").json["status"] == "QUEUED"
    assert api.post(f"/api/v1/runs/{run}/resume").json["paused_at"] is None
    work(run)
    assert api.get(f"/api/v1/runs/{run}").json["outputs"] == {"said": ["hi"]}
    assert api.post(f"/api/v1/runs/{run}/pause").status_code == 409
    assert api.post(f"/api/v1/runs/{run}/resume").status_code == 409


def test_a_run_is_retried(api, failed, work):
    again = api.post(f"/api/v1/runs/{failed}/retry")
    assert (again.status_code, again.json["status"], again.json["retries"]) == (202, "RUNNING", 1)
    work(failed)
    run = api.get(f"/api/v1/runs/{failed}").json
    assert (run["status"], run["retries"]) == ("FAILED", 1)
    nodes = {one["node_id"]: one["attempt"] for one in api.get(f"/api/v1/runs/{failed}/nodes").json["items"]}
    assert nodes == {"keep": 1, "get": 2, "beside": 1}


def test_a_run_is_forked_with_other_inputs(api, failed, work):
    forked = api.post(f"/api/v1/runs/{failed}/fork", json={"from_node": "get", "inputs": {"index": 0}})
    assert forked.status_code == 202
    assert forked.json["forked_from"] == failed
    work(forked.json["id"])
    assert api.get(forked.headers["Location"]).json["status"] == "COMPLETED"
    unknown = api.post(f"/api/v1/runs/{failed}/fork", json={"from_node": "nowhere"})
    assert (unknown.status_code, unknown.json["errors"][0]["node"]) == (422, "nowhere")
    misspelt = api.post(f"/api/v1/runs/{failed}/fork", json={"from_node": "get", "inputs": {"indx": 0}})
    assert misspelt.status_code == 422
    (error,) = misspelt.json["errors"]
    assert (error["node"], error["pin"], error["severity"]) == ("get", "indx", "error")


def test_runs_are_cancelled_in_bulk_only_where_it_is_said_which(api, stranger, echo):
    runs = [
        api.post("/api/v1/runs", json={"graph": echo, "inputs": {"word": "x"}, "labels": {"batch": batch}}).json["id"]
        for batch in ("a", "a", "b")
    ]
    assert api.post("/api/v1/runs/cancel", json={}).status_code == 400
    assert stranger.post("/api/v1/runs/cancel", json={"all": True}).json["count"] == 0
    some = api.post("/api/v1/runs/cancel", json={"labels": {"batch": "a"}})
    assert (some.status_code, set(some.json["cancelled"]), some.json["more"]) == (202, set(runs[:2]), False)
    assert api.post("/api/v1/runs/cancel", json={"all": True}).json["count"] == 3, "those being cancelled as well"


def test_an_event_that_nothing_waits_for_is_kept(api, stranger, echo):
    run = api.post("/api/v1/runs", json={"graph": echo, "inputs": {"word": 1}}).json["id"]
    sent = api.post(f"/api/v1/runs/{run}/signals/paid", json={"payload": {"amount": 3}})
    assert (sent.status_code, sent.json) == (202, {"run_id": run, "name": "paid", "taken": False})
    assert api.post(f"/api/v1/runs/{run}/signals/{'x' * 201}").status_code == 400
    assert stranger.post(f"/api/v1/runs/{run}/signals/paid").status_code == 404


def test_a_retry_waits_until_a_fork_has_taken_over_what_the_run_did(app, api, failed, eventually, monkeypatch):
    check, retried = steering.documents.problems_of_run, []

    def retry() -> None:
        client = app.test_client()
        client.environ_base.update(api.environ_base)
        retried.append(client.post(f"/api/v1/runs/{failed}/retry").status_code)

    def waits() -> bool:
        with transaction() as session:
            return bool(
                session.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
            )

    meanwhile = threading.Thread(target=retry)

    def slow_check(*given):
        meanwhile.start()
        eventually(lambda: retried or waits())
        return check(*given)

    monkeypatch.setattr(steering.documents, "problems_of_run", slow_check)
    forked = api.post(f"/api/v1/runs/{failed}/fork", json={"from_node": "beside"})
    meanwhile.join(20)
    assert (forked.status_code, retried) == (202, [202])
    nodes = api.get(f"/api/v1/runs/{forked.json['id']}/nodes").json["items"]
    assert {one["node_id"]: one["status"] for one in nodes} == {
        "keep": "COMPLETED",
        "get": "FAILED",
        "beside": "QUEUED",
    }


@pytest.mark.parametrize("what", ["pause", "resume", "retry", "fork", "cancel", "signals/x"])
def test_runs_of_others_cannot_be_steered(api, stranger, echo, what):
    run = api.post("/api/v1/runs", json={"graph": echo, "inputs": {"word": 1}}).json["id"]
    body = {"from_node": "in"} if what == "fork" else {}
    assert stranger.post(f"/api/v1/runs/{run}/{what}", json=body).status_code == 404
    assert api.post(f"/api/v1/runs/{uuid4()}/{what}", json=body).status_code == 404


def test_reviews_of_nobody_are_an_empty_list(api):
    assert api.get("/api/v1/reviews").json == {"items": [], "next_cursor": None}
    assert api.get("/api/v1/reviews?status=all").json["items"] == []
    assert api.get("/api/v1/reviews?status=ODD").status_code == 400
    for what in ("", "/approve", "/reject"):
        call = api.post if what else api.get
        assert call(f"/api/v1/reviews/{uuid4()}{what}").status_code == 404


def test_one_block_is_run_by_itself(api, work):
    block = registry.by_name("Calculator").id
    inputs = {"operation": "Add", "a": 1, "b": 2}
    asked = api.post(f"/api/v1/blocks/{block}/execute", json={"inputs": inputs, "wait": 0})
    assert (asked.status_code, asked.json["status"]) == (202, "QUEUED")
    work(asked.json["run_id"])
    assert api.get(asked.headers["Location"]).json["status"] == "COMPLETED"
    wrong = api.post(f"/api/v1/blocks/{block}/execute", json={"inputs": {"operation": "Add"}})
    assert wrong.status_code == 422
    assert {one["pin"] for one in wrong.json["errors"]} == {"a", "b"}
    assert api.post(f"/api/v1/blocks/{uuid4()}/execute", json={}).status_code == 404


@pytest.mark.parametrize(("name", "pin"), [("AgentInput", "result"), ("AgentOutput", "output")])
def test_an_input_or_output_node_is_run_by_itself_under_the_name_it_is_given(api, work, name, pin):
    path = f"/api/v1/blocks/{registry.by_name(name).id}/execute"
    asked = api.post(path, json={"inputs": {"name": "word", "value": "hi"}, "wait": 0})
    assert asked.status_code == 202, asked.json
    work(asked.json["run_id"])
    (node,) = api.get(f"/api/v1/runs/{asked.json['run_id']}/nodes").json["items"]
    assert node["outputs"][pin] == ["hi"]
    assert api.post(path, json={"inputs": {"value": "hi"}}).status_code == 422


def test_a_sub_graph_is_run_by_itself(api, push, work):
    graph = push()
    inputs = {"graph_id": str(graph), "inputs": {"word": "hi"}}
    inputs["input_schema"] = {"type": "object", "properties": {"word": {}}}
    inputs["output_schema"] = {"type": "object", "properties": {"said": {}}}
    path = f"/api/v1/blocks/{registry.by_name('AgentExecutor').id}/execute"
    run = api.post(path, json={"inputs": inputs, "wait": 0}).json["run_id"]
    work(run)
    (child,) = api.get(f"/api/v1/runs?parent={run}").json["items"]
    for one in (child["id"], run):
        work(one)
    (node,) = api.get(f"/api/v1/runs/{run}/nodes").json["items"]
    assert (node["status"], node["outputs"]) == ("COMPLETED", {"said": ["hi"]})
