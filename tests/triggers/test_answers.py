"""An answer waits for the run's end where it is to, and holds nobody up."""

import threading
import time
from uuid import UUID

import httpx
import pytest
from hooked import WAITING
from serving import serve, start_serving  # noqa: F401
from werkzeug.test import TestResponse

from agentflow.services import waiting
from agentflow.services.transaction import carry_out


@pytest.fixture
def meanwhile(app, call, eventually, api, work):
    """Calls a webhook in a thread, does the work of the run that it begins, and gives the answer."""

    def answer(made, *, working=True, **more) -> TestResponse:
        before = len(api.get("/api/v1/runs").json["items"])
        replies = []
        thread = threading.Thread(target=lambda: replies.append(call(made, **more)))
        thread.start()
        eventually(lambda: len(api.get("/api/v1/runs").json["items"]) > before)
        if working:
            work(UUID(api.get("/api/v1/runs").json["items"][0]["id"]))
        thread.join(40)
        assert replies, "it does not answer"
        return replies[0]

    return answer


def test_it_waits_for_the_outputs_as_the_trigger_says(trigger, meanwhile):
    reply = meanwhile(trigger(wait=30), json={"a": 1})
    assert reply.status_code == 200
    assert (reply.json["status"], reply.json["outputs"]) == ("COMPLETED", {"got": [{"a": 1}]})
    assert "Preference-Applied" not in reply.headers


@pytest.mark.parametrize("prefer", ["wait=30", 'respond-sync, wait="20"; x=1', "WAIT=99"])
def test_it_waits_as_the_request_prefers(trigger, meanwhile, prefer):
    reply = meanwhile(trigger(), json={"a": 1}, headers={"Prefer": prefer})
    assert (reply.status_code, reply.json["outputs"]) == (200, {"got": [{"a": 1}]})
    assert reply.headers["Preference-Applied"] in ("wait=30", "wait=20")


@pytest.mark.parametrize(
    ("wait", "prefer"),
    [
        (0, "wait=30"), (None, None), (30, "respond-async"), (30, "wait=0"), (None, "wait=-1"), (None, "wait=x"),
        (None, "wait"),
    ],
)  # fmt: skip
def test_it_does_not_wait_where_nobody_wants_or_nobody_may(trigger, call, wait, prefer):
    reply = call(trigger(wait=wait), json={}, headers={"Prefer": prefer} if prefer else {})
    assert (reply.status_code, reply.json["outputs"], reply.json["status"]) == (202, None, None)


def test_a_run_that_does_not_end_in_time_is_answered_with_its_id(trigger, call):
    reply = call(trigger(wait=30), json={}, headers={"Prefer": "wait=1"})
    assert (reply.status_code, reply.json["outcome"], reply.json["outputs"]) == (202, "run", None)
    assert reply.json["run_id"]


def test_who_comes_twice_gets_the_outputs_of_the_first(trigger, call, meanwhile):
    made = trigger(wait=30, delivery_id={"path": "$.id"})
    first = meanwhile(made, json={"id": 1})
    again = call(made, json={"id": 1})
    assert (again.status_code, again.json["outcome"]) == (200, "duplicate")
    assert again.json["outputs"] == first.json["outputs"] == {"got": [{"id": 1}]}


def test_a_run_that_fails_is_told_with_its_error(trigger, push, meanwhile, hooked):
    hooked["nodes"].append({"id": "raise", "block_id": "715696a0-e1da-45c8-b209-c2fa9c3b0be6",
                            "input_default": {"value1": {}, "value2": 1, "operator": ">"}})  # fmt: skip
    reply = meanwhile(trigger(graph_id=str(push(hooked)), wait=30), json={})
    assert (reply.status_code, reply.json["status"]) == (200, "FAILED")
    assert reply.json["error"]


def test_without_a_free_place_nobody_waits(app, trigger, call):
    made = trigger(wait=30)
    app.extensions["block_waits"]._count = 0
    began = time.monotonic()
    reply = call(made, json={})
    assert reply.status_code == 202
    assert time.monotonic() - began < 20


def test_a_signal_is_answered_with_the_end_of_its_run(submit, work, trigger, call):
    run = submit(WAITING)
    work(run)
    made = trigger(signal={"name": "paid", "run": "$.run"}, wait=30)
    replies = []
    thread = threading.Thread(target=lambda: replies.append(call(made, json={"run": str(run)})))
    thread.start()
    deadline = time.monotonic() + 30
    while thread.is_alive() and time.monotonic() < deadline:
        work(run)
    thread.join(1)
    assert (replies[0].status_code, replies[0].json["outcome"]) == (200, "signal")
    assert replies[0].json["outputs"] == {"got": [{"run": str(run)}]}


def test_who_waits_takes_no_thread_from_others(serve, api, trigger, eventually):  # noqa: F811
    process, url = serve(AGENTFLOW_WEB_THREADS="1", AGENTFLOW_MAX_EVENT_STREAMS="1", AGENTFLOW_MAX_BLOCK_WAITS="2")
    made = trigger(wait=30)
    replies = []

    def deliver():
        replies.append(httpx.post(f"{url}/hooks/{made['token']}", json={}, timeout=60))

    threads = [threading.Thread(target=deliver) for _ in range(5)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(replies) == 4)  # an owner has one of two places
    assert httpx.get(f"{url}/readyz", timeout=20).status_code == 200
    assert [reply.status_code for reply in replies] == [202] * 4, "nobody works here, so none has ended"
    process.terminate()  # it answers who waits before it ends
    for thread in threads:
        thread.join(30)
    assert [reply.status_code for reply in replies] == [202] * 5
    assert len({reply.json()["run_id"] for reply in replies}) == 5


def test_waiting_ends_when_nobody_wants_the_result(submit):
    run = submit(WAITING)
    paused = []
    assert carry_out(waiting.until_ended(run, 30, lambda seconds: paused.append(seconds) or len(paused) == 4)) is False
    assert paused == sorted(paused)
    assert len(paused) == 4
    assert carry_out(waiting.until_ended(run, 0, lambda _: pytest.fail("it waits"))) is False
