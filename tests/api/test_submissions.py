"""Submitting: accepted means stored, warnings are told, and the same key never runs twice."""

import threading
from importlib import import_module

import pytest
from kombu import Connection

publish = import_module("agentflow.dispatch.publish")  # its package exports a function of that name


def test_a_submission_is_accepted_with_the_place_to_look(api, push):
    graph = push()
    reply = api.post(f"/api/v1/graphs/{graph}/runs", json={"inputs": {"word": "hi"}, "labels": {"team": "a"}})
    assert reply.status_code == 202
    assert reply.json["graph_id"] == str(graph)
    assert (reply.json["graph_version"], reply.json["status"], reply.json["warnings"]) == (1, "QUEUED", [])
    run = api.get(reply.headers["Location"]).json
    assert run["id"] == reply.json["id"]
    assert (run["inputs"], run["labels"], run["priority"]) == ({"word": "hi"}, {"team": "a"}, 5)


def test_an_accepted_run_is_published(api, submit, environment):
    submit(inputs={"word": "hi"})
    with Connection(environment.broker()) as connection:
        assert connection.default_channel._size("agentflow.default") == 1


def test_a_broker_that_is_away_loses_nothing(api, submit, environment, monkeypatch, work):
    monkeypatch.setattr(publish, "_SOCKET_TIMEOUT", 0.1)
    monkeypatch.setattr(publish.publisher(), "_url", "redis://127.0.0.1:1/0")
    run = submit(inputs={"word": "hi"})
    monkeypatch.setattr(publish.publisher(), "_url", environment.broker())
    assert api.get(f"/api/v1/runs/{run}").json["status"] == "QUEUED"
    work(run)
    assert api.get(f"/api/v1/runs/{run}").json["outputs"] == {"said": ["hi"]}


def test_unknown_inputs_and_masks_are_warnings(api, push):
    body = {"inputs": {"wrod": "hi", "word": 1}, "nodes_input_masks": {"ghost": {"value": 1}}}
    reply = api.post(f"/api/v1/graphs/{push()}/runs", json=body)
    assert reply.status_code == 202
    assert len(reply.json["warnings"]) == 2
    assert {one["severity"] for one in reply.json["warnings"]} == {"warning"}


def test_a_mask_of_a_pin_that_its_node_lacks_is_refused(api, push, rows):
    before = rows()
    reply = api.post(
        f"/api/v1/graphs/{push()}/runs", json={"inputs": {"word": 1}, "nodes_input_masks": {"out": {"vlaue": 1}}}
    )
    assert reply.status_code == 422
    (told,) = reply.json["errors"]
    assert (told["node"], told["pin"]) == ("out", "vlaue")
    assert rows()["runs"] == before["runs"]


def test_a_mask_may_name_nodes_of_the_graphs_that_a_graph_runs(api, push):
    inner = push({"nodes": [{"id": "deep", "block_id": "StoreValue", "input_default": {"input": 1}}], "links": []})
    sub = {"id": "sub", "block_id": "AgentExecutor", "input_default": {"graph_id": str(inner), "graph_version": 1}}
    outer = push({"nodes": [sub], "links": []})
    outermost = push({"nodes": [{**sub, "input_default": {"graph_id": str(outer), "graph_version": 1}}], "links": []})
    for graph in (outer, outermost):
        reply = api.post(f"/api/v1/graphs/{graph}/runs", json={"nodes_input_masks": {"deep": {"input": 2}}})
        assert (reply.status_code, reply.json["warnings"]) == (202, [])
        reply = api.post(f"/api/v1/graphs/{graph}/runs", json={"nodes_input_masks": {"deep": {"intpu": 2}}})
        assert reply.status_code == 422


def test_a_mask_overwrites_what_a_pin_would_get(api, submit, work):
    run = submit(inputs={"word": "hi"}, nodes_input_masks={"out": {"value": "masked"}})
    work(run)
    assert api.get(f"/api/v1/runs/{run}").json["outputs"] == {"said": ["masked"]}


def test_an_older_version_can_be_run(api, push, echo, work):
    graph = push()
    echo["nodes"][1]["input_default"]["name"] = "second"
    api.put(f"/api/v1/graphs/{graph}", json=echo)
    old = api.post(f"/api/v1/graphs/{graph}/runs", json={"version": 1, "inputs": {"word": 1}}).json
    new = api.post(f"/api/v1/graphs/{graph}/runs", json={"inputs": {"word": 1}}).json
    assert (old["graph_version"], new["graph_version"]) == (1, 2)
    for run, name in ((old, "said"), (new, "second")):
        work(run["id"])
        assert api.get(f"/api/v1/runs/{run['id']}").json["outputs"] == {name: [1]}


def test_the_same_graph_inline_is_stored_once(submit, rows):
    submit()
    submit()
    assert (rows()["graphs"], rows()["graph_versions"], rows()["runs"]) == (1, 1, 2)


def test_two_owners_of_the_same_inline_graph_have_one_each(api, stranger, echo, rows):
    for caller in (api, stranger):
        assert caller.post("/api/v1/runs", json={"graph": echo, "inputs": {"word": 1}}).status_code == 202
    assert rows()["graphs"] == 2


@pytest.mark.parametrize(
    "many",
    [
        {"inputs": {f"n{number}": 1 for number in range(10_001)}},
        {"nodes_input_masks": {f"n{number}": {} for number in range(10_001)}},
        {"nodes_input_masks": {"in": {f"value_#_{number}": 1 for number in range(10_001)}}},
        {"nodes_input_masks": {f"n{node}": {f"p{pin}": 1 for pin in range(101)} for node in range(100)}},
    ],
)
def test_more_than_ten_thousand_inputs_or_masked_pins_are_refused(api, echo, many):
    reply = api.post("/api/v1/runs", json={"graph": echo, **many})
    assert reply.status_code == 400, reply.json
    assert next(iter(many)) in reply.get_data(as_text=True)
    assert len(reply.data) < 10_000


@pytest.mark.parametrize("inline", [True, False])
def test_the_same_key_and_body_give_the_same_run(api, push, echo, rows, inline):
    path = "/api/v1/runs" if inline else f"/api/v1/graphs/{push()}/runs"
    body = {"inputs": {"word": "hi", "extra": 1}, **({"graph": echo} if inline else {})}
    first = api.post(path, json=body, headers={"Idempotency-Key": "once"})
    before = rows()
    again = api.post(path, json=body, headers={"Idempotency-Key": "once"})
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json == again.json
    assert first.headers["Location"] == again.headers["Location"]
    assert "Idempotent-Replay" not in first.headers
    assert again.headers["Idempotent-Replay"] == "true"
    assert rows() == before


def test_the_same_key_gives_the_same_run_though_another_could_not_begin(api, push, echo, rows):
    inner = push()
    given = {"graph_id": str(inner), "graph_version": 1, "inputs": {}, "input_schema": {}, "output_schema": {}}
    echo["nodes"].append({"id": "sub", "block_id": "e189baac-8c20-45a1-94a7-55177ea42565", "input_default": given})
    path, body = f"/api/v1/graphs/{push(echo)}/runs", {"inputs": {"wrod": 1, "word": 1}}
    first = api.post(path, json=body, headers={"Idempotency-Key": "once"})
    assert api.delete(f"/api/v1/graphs/{inner}").status_code == 204
    before = rows()
    again = api.post(path, json=body, headers={"Idempotency-Key": "once"})
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json == first.json
    assert rows() == before
    assert api.post(path, json=body).status_code == 422


def test_the_same_key_with_another_body_is_refused(api, push, rows):
    path = f"/api/v1/graphs/{push()}/runs"
    api.post(path, json={"inputs": {"word": 1}}, headers={"Idempotency-Key": "once"})
    before = rows()
    reply = api.post(path, json={"inputs": {"word": 2}}, headers={"Idempotency-Key": "once"})
    assert reply.status_code == 422
    assert reply.json["type"] == "urn:agentflow:problem:idempotency-mismatch"
    assert rows() == before


def test_a_key_belongs_to_its_owner(api, stranger, echo):
    first = api.post("/api/v1/runs", json={"graph": echo, "inputs": {"word": 1}}, headers={"Idempotency-Key": "once"})
    other = stranger.post(
        "/api/v1/runs", json={"graph": echo, "inputs": {"word": 1}}, headers={"Idempotency-Key": "once"}
    )
    assert first.json["id"] != other.json["id"]


def test_a_refused_submission_does_not_use_the_key_up(api, echo):
    headers = {"Idempotency-Key": "once"}
    assert api.post("/api/v1/runs", json={"graph": {"nodes": []}}, headers=headers).status_code == 422
    assert api.post("/api/v1/runs", json={"graph": echo, "inputs": {"word": 1}}, headers=headers).status_code == 202


def test_a_graph_whose_first_submission_was_refused_can_be_submitted(api, echo, work):
    echo["nodes"][0]["block_id"] = "96dae2bb-97a2-41c2-bd2f-13a3b5a8ea98"  # takes a number
    assert api.post("/api/v1/runs", json={"graph": echo, "inputs": {"word": "many"}}).status_code == 422
    run = api.post("/api/v1/runs", json={"graph": echo, "inputs": {"word": 5}}).json["id"]
    work(run)
    assert api.get(f"/api/v1/runs/{run}").json["outputs"] == {"said": [5]}


@pytest.mark.parametrize("given", ["x" * 256, "\x7f", "ü"])
def test_a_key_that_is_none_is_refused(api, echo, given):
    reply = api.post("/api/v1/runs", json={"graph": echo, "inputs": {"word": 1}}, headers={"Idempotency-Key": given})
    assert reply.status_code == 400


def test_many_submissions_with_one_key_at_once_make_one_run(app, api, push, rows):
    path, count = f"/api/v1/graphs/{push()}/runs", 8
    together, replies = threading.Barrier(count), []

    def send() -> None:
        client = app.test_client()
        client.environ_base.update(api.environ_base)
        together.wait()
        replies.append(client.post(path, json={"inputs": {"word": 1}}, headers={"Idempotency-Key": "once"}))

    threads = [threading.Thread(target=send) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {reply.status_code for reply in replies} == {202}
    assert len({reply.json["id"] for reply in replies}) == 1
    assert sum("Idempotent-Replay" in reply.headers for reply in replies) == count - 1
    assert rows()["runs"] == 1
