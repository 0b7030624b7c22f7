"""Why a run does not go on is said in words."""

from typing import Any

import pytest
from steps import claim

from agentflow.settings import settings
from agentflow.worker.process import process

STEP = "f66a3543-28d3-4ab5-8945-9b336371e2ce"
REVIEW = "8b2a7b3c-6e9d-4a5f-8c1b-2e3f4a5b6c7d"


@pytest.fixture
def told(api):
    """`told(run)`: the words, and the explanation."""

    def of(run: Any) -> tuple[str, dict[str, Any]]:
        reply = api.get(f"/api/v1/runs/{run}/explanation")
        assert reply.status_code == 200, reply.json
        return "\n".join(reason["message"] for reason in reply.json["reasons"]), reply.json

    return of


def test_what_is_ready_waits_for_a_worker_of_its_queue(submit, told, environment):
    run = submit(inputs={"word": 1})
    words, found = told(run)
    assert "AgentInput #1 is ready since" in words
    assert "in the queue 'default', which no worker serves: start one (`agentflow worker -Q default`)" in words
    assert (found["reasons"][0]["node_id"], found["reasons"][0]["index"]) == ("in", 1)
    process().hot.serve(["default"])
    assert "in the queue 'default': the workers that serve it are busy" in told(run)[0]


def test_a_run_that_has_ended_says_how(submit, work, told):
    run = submit(inputs={"word": 1})
    work(run)
    assert told(run)[0] == "it has ended: COMPLETED"


def test_a_paused_run_says_since_when(api, submit, told):
    run = submit(inputs={"word": 1})
    api.post(f"/api/v1/runs/{run}/pause")
    words, _ = told(run)
    assert "it is paused since" in words


def test_a_run_that_is_not_admitted_says_how_many_are_before_it(submit, told, monkeypatch):
    monkeypatch.setattr(settings(), "max_active_runs", 1)
    for _ in range(2):
        submit(inputs={"word": 1})
    words, _ = told(submit(inputs={"word": 2}))
    assert "its owner has 1 active runs, and 1 may be" in words
    assert "1 of theirs wait before it" in words


def test_what_waits_for_a_person_names_the_review(api, submit, work, echo, told):
    ask = {"name": "Look", "data": "x"}
    echo["nodes"].append(
        {"id": "ask", "block_id": REVIEW, "input_default": ask, "metadata": {"customized_name": "Ask"}}
    )
    run = submit(echo, {"word": 1})
    work(run)
    (review,) = api.get("/api/v1/reviews").json["items"]
    words, _ = told(run)
    assert f"for a person to decide review {review['id']}" in words
    assert "nothing of it can go on before something comes from the outside" in words


def test_who_holds_a_limit_is_named(submit, echo, told, environment):

    echo["nodes"][0]["settings"] = {"concurrency": {"key": "one", "limit": 1}}
    first, second = (submit(echo, {"word": number}) for number in range(2))
    assert claim(process(), first, 0, 1) is not None
    assert claim(process(), second, 0, 1) is None
    words, found = told(second)
    assert (
        f"waits for a place under its limit (1 at once), with 0 before it; held by AgentInput #1 of run {first}"
        in words
    )
    assert found["reasons"][0]["run_ids"] == [str(first)]
    assert "AgentInput #1 runs since" in told(first)[0]


def test_a_run_of_somebody_else_is_not_explained(api, stranger, submit):
    run = submit(inputs={"word": 1})
    assert stranger.get(f"/api/v1/runs/{run}/explanation").status_code == 404
