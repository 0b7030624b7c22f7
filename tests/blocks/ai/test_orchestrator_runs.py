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
from steps import claim

from agentflow.blocks import registry
from agentflow.engine.outcome import Waiting
from agentflow.services.transaction import transaction
from agentflow.settings import Settings, settings
from agentflow.worker.execute import perform
from agentflow.worker.process import process
from agentflow.worker.waiting import begin

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
                "settings": {"retry": {"max_failures": 2, "base": 0}}
                | ({"compensate_with": "sum"} if node == "Calculator" else {}),
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
def test_what_the_model_decided_is_not_asked_for_again_by_the_next_worker(
    models: ModelServer, submit: Submit, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.replies.extend([Reply(calls=(SUM,)), Reply("It is 5.")])
    run_id = submit(graph(agent_mode_max_iterations=3))
    work(run_id, most=1)
    assert len(models.asked) == 1
    held = process().run(run_id)
    assert held is not None
    lost = claim(process(), run_id, held.plan.node("boss").number, 1)
    assert lost is not None  # a worker has it, starts the tool, and dies before it could store what it waits for
    outcome = perform(lost)
    assert isinstance(outcome, Waiting)
    begin(lost, outcome.wait)
    [child] = children(run_id)
    lost.return_lease()
    work(run_id)
    assert children(run_id) == [child]
    assert len(models.asked) == 1


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


def looping(**inputs: Any) -> dict[str, Any]:
    """The same, but the tool's result and the conversation come back to the Orchestrator: each turn is an execution."""
    document = graph(**inputs)
    document["nodes"] += [
        {"id": "task", "block_id": registry.by_name("AgentInput").id, "input_default": {"name": "task"}},
    ]
    document["links"] += [
        {"source_id": source, "source_name": pin, "sink_id": "boss", "sink_name": into}
        for source, pin, into in (
            ("task", "result", "prompt"),
            ("boss", "conversations", "conversation_history"),
            ("Calculator", "result", "last_tool_output"),
        )
    ]
    return document


@pytest.mark.usefixtures("credentials")
def test_a_loop_brings_conversation_and_result_back_and_the_first_turn_does_not_wait_for_them(
    models: ModelServer, api: FlaskClient, submit: Submit, work: Work
) -> None:
    again = ("Calculator", {"operation": "Multiply", "a": 5, "b": 7})
    models.replies.extend([Reply(calls=(SUM,)), Reply(calls=(again,)), Reply("It is 35.")])
    run_id = submit(looping(), {"task": "What is (2 + 3) times 7?"})
    work(run_id)
    assert result(api, run_id) == ("COMPLETED", {"sum": [5, 35], "word": ["It is 35."]})
    told = [message["content"] for message in models.asked[2].body["messages"] if message["role"] == "tool"]
    assert told == ["5.0", "35.0"]
    assert api.get(f"/api/v1/runs/{run_id}").json["stats"]["leftovers"] == []


@pytest.mark.usefixtures("credentials")
def test_the_loop_may_start_without_anything_from_outside(
    models: ModelServer, api: FlaskClient, submit: Submit, work: Work
) -> None:
    document = looping()
    document["links"] = [link for link in document["links"] if link["source_id"] != "task"]
    models.replies.extend([Reply(calls=(SUM,)), Reply("It is 5.")])
    run_id = submit(document)
    work(run_id)
    assert result(api, run_id) == ("COMPLETED", {"sum": [5], "word": ["It is 5."]})


@pytest.mark.usefixtures("credentials")
def test_an_agent_that_nothing_reached_is_no_leftover(api: FlaskClient, submit: Submit, work: Work) -> None:
    run_id = submit(looping())  # the input has no value
    work(run_id)
    run = api.get(f"/api/v1/runs/{run_id}").json
    assert run["status"] == "COMPLETED"
    assert run["stats"]["leftovers"] == []
    [boss] = api.get(f"/api/v1/runs/{run_id}/nodes?node=boss").json["items"]
    assert (boss["status"], boss["waiting_for"]) == ("INCOMPLETE", ["prompt"])
