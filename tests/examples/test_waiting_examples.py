"""The examples that wait do what they say, from their files, in real runs."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from asking_models import models
from flask.testing import FlaskClient
from installation import api, app, environment, key, shared_database, submit, work
from model_server import ModelServer, Reply
from sqlalchemy import text

from agentflow.services.transaction import transaction
from agentflow.settings import settings
from agentflow.shipped import shipped

__all__ = ["api", "app", "environment", "key", "models", "shared_database", "submit", "work"]

pytestmark = pytest.mark.timeout(60, method="thread")

Submit = Callable[..., UUID]
Work = Callable[..., None]


def example(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((shipped("examples") / f"{name}.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture
def finish(api: FlaskClient, work: Work) -> Callable[[UUID], dict[str, Any]]:
    """Works on a run and on all its child runs until nothing is ready; gives the run."""
    open_runs = text("SELECT id FROM runs WHERE root_id = :root AND ended_at IS NULL ORDER BY depth DESC, id")

    def go_on(run_id: UUID) -> dict[str, Any]:
        for _ in range(30):
            with transaction() as session:
                tree = list(session.scalars(open_runs, {"root": run_id}))
            for one in tree:
                work(one)
        run: dict[str, Any] = api.get(f"/api/v1/runs/{run_id}").json
        return run

    return go_on


def test_the_counter_counts(submit: Submit, finish: Callable[[UUID], dict[str, Any]]) -> None:
    run = finish(submit(example("counter"), {"limit": 4}))
    assert (run["status"], run["outputs"]) == ("COMPLETED", {"count": [1, 2, 3, 4], "done": [4]})


def test_the_invoice_runs_graphs_in_graphs_and_keeps_the_order(
    submit: Submit, finish: Callable[[UUID], dict[str, Any]]
) -> None:
    lines = [{"price": price, "pieces": 2} for price in (10, 20, 30)]
    run = finish(submit(example("invoice"), {"lines": lines}))
    assert (run["status"], run["outputs"]) == ("COMPLETED", {"totals": [[24, 48, 72]]})
    assert run["stats"]["child_runs"] == 6


@pytest.mark.parametrize("approve", [True, False])
def test_the_approval_waits_for_a_person(
    approve: bool, api: FlaskClient, submit: Submit, finish: Callable[[UUID], dict[str, Any]]
) -> None:
    run_id = submit(example("approval"), {"customer": "Ms Lee", "amount": "12 EUR"})
    assert finish(run_id)["status"] == "WAITING"
    (review,) = api.get("/api/v1/reviews").json["items"]
    letter = "Dear Ms Lee,\n\nwe have refunded 12 EUR to your account."
    assert review["data"] == letter
    decision = {"data": f"{letter} Sorry!"} if approve else {"message": "which account?"}
    decided = api.post(f"/api/v1/reviews/{review['id']}/{'approve' if approve else 'reject'}", json=decision)
    assert decided.status_code == 200
    run = finish(run_id)
    expected = {"letter": [f"{letter} Sorry!"]} if approve else {"rejected": [letter], "message": ["which account?"]}
    assert (run["status"], run["outputs"]) == ("COMPLETED", expected)


def test_the_agent_uses_its_tools(
    models: ModelServer,
    submit: Submit,
    finish: Callable[[UUID], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = models.openai_url.removeprefix("http://").split("/")[0]
    monkeypatch.setattr(settings(), "http_allow", (host,))
    models.replies.append(Reply(calls=(("calculate", {"operation": "Multiply", "a": 6, "b": 7}),)))
    models.replies.append(Reply("It is 42."))
    run = finish(submit(example("agent-with-tools"), {"question": "What is 6 times 7?", "host": host}))
    assert (run["status"], run["outputs"]) == ("COMPLETED", {"answer": ["It is 42."]})
    assert [tool["function"]["name"] for tool in models.asked[0].body["tools"]] == ["calculate", "today"]
    assert run["stats"]["input_tokens"] > 0
