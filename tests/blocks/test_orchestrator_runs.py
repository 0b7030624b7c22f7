"""The Orchestrator in real runs: its tools are nodes of the graph, and what happens between its calls is kept."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from asking_models import models
from flask.testing import FlaskClient
from installation import api, app, environment, key, shared_database, submit, work
from model_server import ModelServer, Reply
from sqlalchemy import text

from agentflow.blocks import registry
from agentflow.services.transaction import transaction
from agentflow.settings import Settings, settings

__all__ = ["api", "app", "environment", "key", "models", "shared_database", "submit", "work"]

pytestmark = pytest.mark.timeout(60, method="thread")

SUM = ("Calculator", {"operation": "Add", "a": 2, "b": 3})


@pytest.fixture
def credentials(environment: Settings, models: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The setting by which an operator leads to a provider."""
    monkeypatch.setenv("AGENTFLOW_CREDENTIALS", json.dumps({"openai": {"base_url": models.openai_url}}))
    settings.cache_clear()
    yield
    settings.cache_clear()


def graph(**inputs: Any) -> dict[str, Any]:
    """An Orchestrator with a calculator for a tool; the calculator's result and the final word are outputs."""
    blocks = {"boss": "Orchestrator", "Calculator": "Calculator", "sum": "AgentOutput", "word": "AgentOutput"}
    given = {
        "boss": {"prompt": "What is 2 + 3?", **inputs},
        "Calculator": {},
        "sum": {"name": "sum"},
        "word": {"name": "word"},
    }
    links = [("boss", "tools", "Calculator", pin) for pin in ("operation", "a", "b")]
    links += [("Calculator", "result", "sum", "value"), ("boss", "finished", "word", "value")]
    return {
        "name": "agent",
        "nodes": [
            {
                "id": node,
                "block_id": registry.by_name(block).id,
                "input_default": given[node],
                "metadata": {"customized_name": node},
                "settings": {"retry": {"max_failures": 2, "base": 0}},
            }
            for node, block in blocks.items()
        ],
        "links": [
            {"source_id": source, "source_name": pin, "sink_id": sink, "sink_name": into}
            for source, pin, sink, into in links
        ],
    }


def result(api: FlaskClient, run_id: UUID) -> tuple[str, Any]:
    """How a run stands, and its outputs."""
    run: Any = api.get(f"/api/v1/runs/{run_id}").json
    return run["status"], run["outputs"]


def children(run_id: UUID) -> list[UUID]:
    statement = text("SELECT id FROM runs WHERE parent_run_id = :run ORDER BY id")
    with transaction() as session:
        return list(session.scalars(statement, {"run": run_id}))


Submit = Callable[..., UUID]
Work = Callable[..., None]


@pytest.mark.usefixtures("credentials")
def test_a_chosen_tool_runs_along_its_links(models: ModelServer, api: FlaskClient, submit: Submit, work: Work) -> None:
    models.replies.append(Reply(calls=(SUM,)))
    run_id = submit(graph())
    work(run_id)
    assert result(api, run_id) == ("COMPLETED", {"sum": [5]})
    [tool] = models.asked[0].body["tools"]
    assert tool["function"]["name"] == "Calculator"
    assert set(tool["function"]["parameters"]["properties"]) == {"operation", "a", "b"}


@pytest.mark.usefixtures("credentials")
def test_an_agent_calls_a_node_waits_for_it_and_goes_on(
    models: ModelServer, api: FlaskClient, submit: Submit, work: Work
) -> None:
    models.replies.extend([Reply(calls=(SUM,)), Reply("busy", status=503), Reply("It is 5.")])
    run_id = submit(graph(agent_mode_max_iterations=3))
    work(run_id)
    assert result(api, run_id)[0] == "WAITING"
    [child] = children(run_id)
    work(child)
    work(run_id)
    assert result(api, run_id) == ("COMPLETED", {"word": ["It is 5."]})
    assert len(models.asked) == 3  # the failed attempt went on from the wait, and called nothing again
    assert children(run_id) == [child]
    assert json.loads(models.asked[2].body["messages"][-1]["content"]) == {"result": [5]}


@pytest.mark.usefixtures("credentials")
def test_a_tool_that_fails_is_told_to_the_model(
    models: ModelServer, api: FlaskClient, submit: Submit, work: Work
) -> None:
    document = graph(agent_mode_max_iterations=-1)
    document["nodes"][1] |= {"block_id": registry.by_name("GetListItem").id, "input_default": {"list": [1, 2]}}
    document["links"] = [{**document["links"][0], "sink_name": "index"}, document["links"][-1]]
    models.replies.extend([Reply(calls=(("Calculator", {"index": 7}),)), Reply("I cannot.")])
    run_id = submit(document)
    work(run_id)
    [child] = children(run_id)
    work(child)
    work(run_id)
    told = json.loads(models.asked[1].body["messages"][-1]["content"])
    assert "out of range" in told["error"]
    assert result(api, run_id)[1]["word"] == ["I cannot."]


@pytest.mark.usefixtures("credentials")
def test_arguments_that_a_tool_cannot_take_are_told_before_it_is_called(
    models: ModelServer, api: FlaskClient, submit: Submit, work: Work
) -> None:
    models.replies.extend([Reply(calls=(("Calculator", {**SUM[1], "operation": "Guess"}),)), Reply("I cannot.")])
    run_id = submit(graph(agent_mode_max_iterations=-1))
    work(run_id)
    assert result(api, run_id) == ("COMPLETED", {"word": ["I cannot."]})
    assert children(run_id) == []
    assert 'operation of Calculator cannot be "Guess"' in models.asked[1].body["messages"][-2]["content"]
