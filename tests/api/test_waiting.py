"""Who submits a run can have its result in the reply."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from agentflow.api.places import Places
from agentflow.blocks.flow.waiting import WaitForEvent
from agentflow.client import Client
from agentflow.services.transaction import transaction

Push = Callable[..., UUID]


@pytest.fixture
def worker(work: Callable[..., None]) -> Iterator[None]:
    """Works on whatever is submitted."""
    over = threading.Event()

    def act() -> None:
        while not over.wait(0.05):
            with transaction() as session:
                found = session.scalars(text("SELECT id FROM runs WHERE ended_at IS NULL")).all()
            for run_id in found:
                work(run_id)

    thread = threading.Thread(target=act)
    thread.start()
    yield
    over.set()
    thread.join()


@contextmanager
def no_place(api: FlaskClient) -> Iterator[None]:
    places: Places = api.application.extensions["block_waits"]
    owner = UUID(api.get("/api/v1/me").json["user"]["id"])
    for _ in range(4):
        places.take(owner)
    yield
    for _ in range(4):
        places.release(owner)


def test_a_run_that_ends_in_time_comes_with_its_outputs(api: FlaskClient, push: Push, echo: Any, worker: None) -> None:
    graph = push()
    preset = api.post("/api/v1/presets", json={"graph_id": str(graph), "name": "p"}).json["id"]
    body = {"inputs": {"word": "hi"}}
    for path, sent in (
        (f"/api/v1/graphs/{graph}/runs", body),
        ("/api/v1/runs", {**body, "graph": echo}),
        (f"/api/v1/presets/{preset}/runs", body),
    ):
        for how in ({"query_string": {"wait": 30}}, {"headers": {"Prefer": "wait=30"}}):
            reply = api.post(path, json=sent, **how)
            assert (reply.status_code, reply.json["status"], reply.json["outputs"]) == (
                200,
                "COMPLETED",
                {"said": ["hi"]},
            )
            assert reply.headers["Location"].endswith(reply.json["id"])
            assert reply.json == api.get(reply.headers["Location"]).json
            assert ("Preference-Applied" in reply.headers) == ("headers" in how)


def test_one_that_fails_is_told_all_the_same(api: FlaskClient, worker: None) -> None:
    node = {
        "id": "n",
        "block_id": "363ae599-353e-4804-937e-b2ee3cef3da4",
        "input_default": {"name": "o", "format": "{{ 1 / 0 }}", "value": 1},
    }
    reply = api.post("/api/v1/runs?wait=30", json={"graph": {"nodes": [node], "links": []}})
    assert (reply.status_code, reply.json["status"]) == (200, "FAILED")
    assert reply.json["error"]


def test_one_that_does_not_end_in_time_is_accepted(api: FlaskClient, push: Push) -> None:
    path = f"/api/v1/graphs/{push()}/runs"
    for how in (
        {"query_string": {"wait": 0.2}},
        {"query_string": {"wait": 0}},
        {"headers": {"Prefer": "respond-async"}},
        {},
    ):
        reply = api.post(path, json={"inputs": {"word": "hi"}}, **how)
        assert (reply.status_code, reply.json["status"]) == (202, "QUEUED")


def test_one_that_has_gone_on_meanwhile_is_told_as_it_stands(api: FlaskClient, worker: None) -> None:
    node = {"id": "w", "block_id": WaitForEvent.id, "input_default": {"name": "go"}}
    reply = api.post("/api/v1/runs?wait=3", json={"graph": {"nodes": [node], "links": []}})
    assert (reply.status_code, reply.json["status"]) == (202, "WAITING")
    api.post(f"/api/v1/runs/{reply.json['id']}/cancel")


def test_who_prefers_to_wait_for_longer_than_one_may_waits_as_long_as_one_may(
    api: FlaskClient, push: Push, worker: None
) -> None:
    headers = {"Prefer": "wait=" + "9" * 400}
    reply = api.post(f"/api/v1/graphs/{push()}/runs", json={"inputs": {"word": "hi"}}, headers=headers)
    assert (reply.status_code, reply.headers["Preference-Applied"]) == (200, "wait=60")


def test_where_too_many_wait_nobody_waits(api: FlaskClient, push: Push, worker: None) -> None:
    with no_place(api):
        reply = api.post(f"/api/v1/graphs/{push()}/runs?wait=60", json={"inputs": {"word": "hi"}})
        assert reply.status_code == 202


@pytest.mark.parametrize("wait", ["-1", "61", "soon", "nan", "1e9"])
def test_a_wait_that_is_none_is_refused_and_nothing_runs(api: FlaskClient, push: Push, wait: str, rows: Any) -> None:
    reply = api.post(f"/api/v1/graphs/{push()}/runs?wait={wait}", json={"inputs": {"word": "hi"}})
    assert (reply.status_code, "wait" in str(reply.json["errors"])) == (400, True)
    assert rows()["runs"] == 0


def test_a_repeated_submission_waits_for_the_same_run(api: FlaskClient, push: Push, worker: None, rows: Any) -> None:
    path, headers = f"/api/v1/graphs/{push()}/runs?wait=30", {"Idempotency-Key": "once"}
    first, again = (api.post(path, json={"inputs": {"word": "hi"}}, headers=headers) for _ in range(2))
    assert first.json == again.json
    assert (first.status_code, again.status_code, rows()["runs"]) == (200, 200, 1)
    assert again.headers["Idempotent-Replay"] == "true"


def test_the_client_runs_and_waits(url: str, key: str, push: Push, worker: None, app: Any, api: FlaskClient) -> None:
    with Client(url, key) as client:
        run = client.run_and_wait(push(), {"word": "hi"})
        assert (run.status, run.outputs) == ("COMPLETED", {"said": ["hi"]})
        with no_place(api):
            run = client.run_and_wait(push(), {"word": "ho"})
        assert (run.status, run.outputs) == ("COMPLETED", {"said": ["ho"]})
