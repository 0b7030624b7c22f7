"""AI blocks in real runs: what a provider's failure does to the run, and what the run counts."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from asking_models import KEY, models
from flask.testing import FlaskClient
from installation import api, app, environment, key, shared_database, submit, work
from model_server import ModelServer, Reply, last_text
from sqlalchemy import text

from agentflow.blocks import registry
from agentflow.services.transaction import transaction
from agentflow.settings import Settings, settings

__all__ = ["api", "app", "environment", "key", "models", "shared_database", "submit", "work"]

pytestmark = [pytest.mark.timeout(60, method="thread"), pytest.mark.usefixtures("providers")]

BOTH = pytest.mark.parametrize("model", ["gpt-4o", "claude-next"])

AT_ONCE = {"retry": {"max_failures": 2, "base": 0}}

Submit = Callable[..., UUID]
Work = Callable[..., None]


@pytest.fixture
def providers(environment: Settings, models: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The setting by which an operator leads to both providers; the server lets this key in and no other."""
    models.key = KEY
    known = {
        "openai": {"base_url": models.openai_url, "api_key": KEY},
        "anthropic": {"base_url": models.anthropic_url, "api_key": KEY},
    }
    monkeypatch.setenv("AGENTFLOW_CREDENTIALS", json.dumps(known))
    settings.cache_clear()
    yield
    settings.cache_clear()


def graph(model: str, block: str = "AITextGenerator", settings: Any = AT_ONCE, **inputs: Any) -> dict[str, Any]:
    """A prompt that goes to a model, whose response is an output of the graph."""
    given = {"prompt": "Say hello.", "model": model, **inputs}
    return {
        "name": "ask",
        "nodes": [
            {"id": "ask", "block_id": registry.by_name(block).id, "input_default": given, "settings": settings or {}},
            {"id": "out", "block_id": registry.by_name("AgentOutput").id, "input_default": {"name": "said"}},
        ],
        "links": [{"source_id": "ask", "source_name": "response", "sink_id": "out", "sink_name": "value"}],
    }


def asked_node(api: FlaskClient, run_id: UUID) -> dict[str, Any]:
    """The execution of the node that asks."""
    [found] = [node for node in api.get(f"/api/v1/runs/{run_id}/nodes").json["items"] if node["node_id"] == "ask"]
    return dict(found)


@BOTH
def test_an_answer_is_an_output_and_its_tokens_are_counted(
    models: ModelServer, api: FlaskClient, submit: Submit, work: Work, model: str
) -> None:
    models.replies.append(Reply("Hello to all of you."))
    run_id = submit(graph(model))
    work(run_id)
    run: Any = api.get(f"/api/v1/runs/{run_id}").json
    assert (run["status"], run["outputs"]) == ("COMPLETED", {"said": ["Hello to all of you."]})
    counts = {"input_tokens": 2, "output_tokens": 5, "llm_calls": 1}
    assert run["stats"].items() >= counts.items()
    assert asked_node(api, run_id)["stats"].items() >= counts.items()


FAILURES = {
    "429": Reply("slow down", status=429, headers={"retry-after": "0"}),
    "500": Reply("oh no", status=500),
    "malformed": Reply(raw=b'{"choices": ['),
    "cut off": Reply("one two three four", cut=True),
}


@BOTH
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_that_may_pass_is_tried_again(
    models: ModelServer, api: FlaskClient, submit: Submit, work: Work, model: str, failure: str
) -> None:
    models.replies.extend([FAILURES[failure], FAILURES[failure], Reply("At last.")])
    run_id = submit(graph(model))
    work(run_id)
    run: Any = api.get(f"/api/v1/runs/{run_id}").json
    assert (run["status"], run["outputs"]) == ("COMPLETED", {"said": ["At last."]})
    assert asked_node(api, run_id)["attempt"] == len(models.asked) == 3
    # Anthropic's streams begin with what they used so far, and say it again, as a whole, at their end.
    told = 2 if failure == "cut off" and model.startswith("claude") else 0
    assert run["stats"]["output_tokens"] == 2 + told


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_that_does_not_pass_ends_the_run(
    models: ModelServer, api: FlaskClient, submit: Submit, work: Work, failure: str
) -> None:
    models.choose = lambda body: FAILURES[failure]
    run_id = submit(graph("gpt-4o"))
    work(run_id)
    assert api.get(f"/api/v1/runs/{run_id}").json["status"] == "FAILED"
    node = asked_node(api, run_id)
    assert (node["status"], node["reason"], node["attempt"], len(models.asked)) == ("FAILED", "transient", 3, 3)


@BOTH
def test_nobody_there_is_tried_again_too(
    models: ModelServer, api: FlaskClient, submit: Submit, work: Work, model: str
) -> None:
    models.stop()
    run_id = submit(graph(model))
    work(run_id)
    node = asked_node(api, run_id)
    assert (node["status"], node["reason"], node["attempt"]) == ("FAILED", "transient", 3)


@BOTH
def test_a_wrong_key_is_not_tried_again_and_not_told(
    models: ModelServer, api: FlaskClient, submit: Submit, work: Work, model: str
) -> None:
    models.key = "sk-another"
    run_id = submit(graph(model))
    work(run_id)
    node = asked_node(api, run_id)
    assert (node["status"], node["reason"], node["attempt"], len(models.asked)) == ("FAILED", "user", 1, 1)
    assert "status 401" in node["error"]
    assert KEY not in json.dumps(node)
    with transaction() as session:
        kept = session.scalars(text("SELECT coalesce(error, '') FROM node_executions")).all()
    assert not any(KEY in error for error in kept)


@BOTH
def test_a_busy_endpoint_is_left_alone_for_as_long_as_it_asks(
    models: ModelServer, api: FlaskClient, submit: Submit, work: Work, model: str
) -> None:
    models.replies.append(Reply("slow down", status=429, headers={"retry-after": "90"}))
    run_id = submit(graph(model))
    work(run_id, most=1)
    with transaction() as session:
        statement = "SELECT extract(epoch FROM due_at - agentflow_now()) FROM node_executions WHERE attempt = 1"
        assert 60 < session.scalar(text(statement)) <= 90
    work(run_id, most=1)
    assert len(models.asked) == 1
    assert api.get(f"/api/v1/runs/{run_id}").json["status"] == "RUNNING"


def test_an_ai_block_is_tried_again_twice_where_nobody_says_otherwise(
    models: ModelServer, api: FlaskClient, submit: Submit, work: Work
) -> None:
    assert registry.by_name("AITextGenerator").spec().retry.max_failures == 2
    never = {"retry": {"max_failures": 0}}
    models.replies.append(Reply("oh no", status=500))
    run_id = submit(graph("gpt-4o", settings=never))
    work(run_id)
    assert (asked_node(api, run_id)["attempt"], len(models.asked)) == (1, 1)


@BOTH
def test_an_answer_of_the_wrong_form_is_asked_for_again_within_one_attempt(
    models: ModelServer, api: FlaskClient, submit: Submit, work: Work, model: str
) -> None:
    models.replies.extend([Reply('{"name": '), Reply("No."), Reply('{"name": "Ada"}')])
    run_id = submit(graph(model, "AIStructuredResponseGenerator", expected_format={"name": "a name"}))
    work(run_id)
    run: Any = api.get(f"/api/v1/runs/{run_id}").json
    assert (run["status"], run["outputs"]) == ("COMPLETED", {"said": [{"name": "Ada"}]})
    assert asked_node(api, run_id)["attempt"] == 1
    assert (run["stats"]["llm_calls"], run["stats"]["llm_retries"]) == (3, 2)
    assert all("This answer cannot be used" in last_text(asked.body) for asked in models.asked[1:])


@BOTH
def test_a_model_that_never_finds_the_form_fails_for_good(
    models: ModelServer, api: FlaskClient, submit: Submit, work: Work, model: str
) -> None:
    models.choose = lambda body: Reply("No.")
    run_id = submit(graph(model, "AIStructuredResponseGenerator", expected_format={"name": "a name"}, retry=2))
    work(run_id)
    node = asked_node(api, run_id)
    assert (node["status"], node["reason"], node["attempt"], len(models.asked)) == ("FAILED", "user", 1, 2)
    assert node["stats"]["llm_calls"] == 2  # what was paid for is told


def test_a_request_by_the_operators_key_costs_its_tokens(
    models: ModelServer, api: FlaskClient, submit: Submit, work: Work
) -> None:
    usage = {"prompt_tokens": 30_000, "completion_tokens": 1_000, "prompt_tokens_details": {"cached_tokens": 10_000}}
    told = {"input_tokens": 20_000, "cache_read_tokens": 10_000, "output_tokens": 1_000}

    def asked() -> dict[str, Any]:
        models.replies.append(Reply("Hello.", usage=usage))
        run_id = submit(graph("gpt-4o"))
        work(run_id)
        found: dict[str, Any] = api.get(f"/api/v1/runs/{run_id}").json["stats"]
        assert found.items() >= told.items()
        assert asked_node(api, run_id)["stats"].get("cost", 0) == found["cost"]
        return found

    assert asked()["cost"] == 8  # 5 for what is read anew, 1.25 for what the cache had, 1 for what is written
