"""Blocks that wait, run another graph or remember, in real runs: what they wait for comes, and they go on."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from installation import api, app, echo, environment, key, push, shared_database, submit, work
from sqlalchemy import text

from agentflow.blocks import registry
from agentflow.services.transaction import transaction

__all__ = ["api", "app", "echo", "environment", "key", "push", "shared_database", "submit", "work"]

# pytest-timeout's other method is SIGALRM itself.
pytestmark = pytest.mark.timeout(60, method="thread")

Submit = Callable[..., UUID]
Work = Callable[..., None]
Push = Callable[..., UUID]


def graph(block: str, given: dict[str, Any], *outputs: str, **inputs: str) -> dict[str, Any]:
    """A graph around one node: an output for each of its pins `outputs`, an input for each of `inputs` (pin=name)."""
    blocks = {"it": (block, given)}
    blocks |= {f"out {pin}": ("AgentOutput", {"name": pin}) for pin in outputs}
    blocks |= {f"in {name}": ("AgentInput", {"name": name}) for name in inputs.values()}
    links = [("it", pin, f"out {pin}", "value") for pin in outputs]
    links += [(f"in {name}", "result", "it", pin) for pin, name in inputs.items()]
    return {
        "name": block,
        "nodes": [
            {"id": node, "block_id": registry.by_name(name).id, "input_default": literals}
            for node, (name, literals) in blocks.items()
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


def come_due(run_id: UUID) -> None:
    """What a waiting node execution waits for in time has come."""
    with transaction() as session:
        session.execute(text("UPDATE waits SET until = agentflow_now() WHERE run_id = :run"), {"run": run_id})
        woken = session.scalars(
            text("SELECT agentflow_wake_due(run_id, node, idx) FROM waits WHERE run_id = :run AND open"),
            {"run": run_id},
        )
        assert list(woken) == [True]


def test_a_countdown_gives_its_message_after_each_wait(api: FlaskClient, submit: Submit, work: Work) -> None:
    run_id = submit(graph("CountdownTimer", {"hours": 1, "repeat": 2, "input_message": "up"}, "output_message"))
    work(run_id)
    assert result(api, run_id) == ("WAITING", {})
    come_due(run_id)
    work(run_id)
    assert result(api, run_id) == ("WAITING", {"output_message": ["up"]})
    come_due(run_id)
    work(run_id)
    assert result(api, run_id) == ("COMPLETED", {"output_message": ["up", "up"]})


@pytest.mark.parametrize(
    ("decision", "body", "outputs"),
    [
        (
            "approve",
            {"data": {"sum": 5}, "message": "less"},
            {"approved_data": [{"sum": 5}], "review_message": ["less"]},
        ),
        ("approve", {}, {"approved_data": [{"sum": 9}]}),
        ("reject", {"message": "no"}, {"rejected_data": [{"sum": 9}], "review_message": ["no"]}),
    ],
)
def test_a_person_decides(
    api: FlaskClient, submit: Submit, work: Work, decision: str, body: dict[str, Any], outputs: dict[str, Any]
) -> None:
    pins = ("approved_data", "rejected_data", "review_message")
    run_id = submit(graph("HumanInTheLoop", {"data": {"sum": 9}, "name": "an order"}, *pins))
    work(run_id)
    assert result(api, run_id) == ("WAITING", {})
    listed: Any = api.get("/api/v1/reviews").json
    [review] = listed["items"]
    assert (review["name"], review["data"], review["editable"]) == ("an order", {"sum": 9}, True)
    reply = api.post(f"/api/v1/reviews/{review['id']}/{decision}", json=body)
    assert reply.status_code == 200, reply.json
    work(run_id)
    assert result(api, run_id) == ("COMPLETED", outputs)


def test_the_rest_of_a_node_is_approved_with_one_of_its_reviews(api: FlaskClient, submit: Submit, work: Work) -> None:
    document = graph("HumanInTheLoop", {"name": "an item"}, "approved_data")
    each = {"id": "each", "block_id": registry.by_name("StepThroughItems").id, "input_default": {"items": [1, 2, 3]}}
    brings = {"source_id": "each", "source_name": "item", "sink_id": "it", "sink_name": "data"}
    run_id = submit({**document, "nodes": [*document["nodes"], each], "links": [*document["links"], brings]})
    work(run_id)
    reviews: Any = api.get("/api/v1/reviews").json
    assert [one["data"] for one in reviews["items"]] == [3, 2, 1]
    reply = api.post(f"/api/v1/reviews/{reviews['items'][0]['id']}/approve", json={"rest": True})
    assert reply.status_code == 200
    work(run_id)
    assert result(api, run_id) == ("COMPLETED", {"approved_data": [1, 2, 3]})


def test_without_safe_mode_nobody_is_asked(api: FlaskClient, submit: Submit, work: Work) -> None:
    document = graph("HumanInTheLoop", {"data": 1, "name": "n"}, "approved_data")
    run_id = submit({**document, "settings": {"safe_mode": False}})
    work(run_id)
    assert result(api, run_id) == ("COMPLETED", {"approved_data": [1]})


def test_a_review_that_nobody_makes_ends_in_an_error(api: FlaskClient, submit: Submit, work: Work) -> None:
    run_id = submit(graph("HumanInTheLoop", {"data": 1, "name": "n", "timeout_seconds": 60}, "approved_data", "error"))
    work(run_id)
    come_due(run_id)
    work(run_id)
    assert result(api, run_id) == ("COMPLETED", {"error": ["nobody reviewed 'n' within 60 s"]})


def test_an_event_comes(api: FlaskClient, submit: Submit, work: Work) -> None:
    run_id = submit(graph("WaitForEvent", {"name": "paid"}, "payload", "timed_out"))
    work(run_id)
    reply = api.post(f"/api/v1/runs/{run_id}/signals/paid", json={"payload": {"by": "card"}})
    assert reply.status_code < 300, reply.json
    work(run_id)
    assert result(api, run_id) == ("COMPLETED", {"payload": [{"by": "card"}], "timed_out": [False]})


def test_an_event_that_came_before_is_kept(api: FlaskClient, submit: Submit, work: Work) -> None:
    run_id = submit(graph("WaitForEvent", {"name": "paid"}, "payload"))
    for payload in ("early", "late"):
        reply = api.post(f"/api/v1/runs/{run_id}/signals/paid", json={"payload": payload})
        assert (reply.status_code, reply.json["taken"]) == (202, False)
    work(run_id)
    assert result(api, run_id) == ("COMPLETED", {"payload": ["early"]})


def test_an_event_does_not_come(api: FlaskClient, submit: Submit, work: Work) -> None:
    run_id = submit(graph("WaitForEvent", {"name": "paid", "timeout_seconds": 60}, "payload", "timed_out"))
    work(run_id)
    come_due(run_id)
    work(run_id)
    assert result(api, run_id) == ("COMPLETED", {"timed_out": [True]})


def test_a_value_is_remembered_by_later_runs(api: FlaskClient, submit: Submit, work: Work) -> None:
    shared = {"key": "seen", "scope": "across_agents"}
    work(submit(graph("PersistInformation", {**shared, "value": {"a": [1]}}, "value")))
    run_id = submit(graph("RetrieveInformation", shared, "value"))
    work(run_id)
    assert result(api, run_id) == ("COMPLETED", {"value": [{"a": [1]}]})


def executor(child: UUID, **inputs: Any) -> dict[str, Any]:
    """What a sub-graph node that runs `echo` is given."""
    word = {"word": {"title": "word"}}
    return {
        "graph_id": str(child),
        "graph_version": 1,
        "inputs": inputs,
        "input_schema": {"type": "object", "properties": word, "required": ["word"]},
        "output_schema": {"type": "object", "properties": {"said": {}}},
    }


def test_another_graph_is_run_and_its_outputs_go_out(api: FlaskClient, push: Push, submit: Submit, work: Work) -> None:
    run_id = submit(graph("AgentExecutor", executor(push(), word={"hi": 1}), "said"))
    work(run_id)
    [child] = children(run_id)
    assert result(api, run_id) == ("WAITING", {})
    work(child)
    work(run_id)
    assert result(api, run_id) == ("COMPLETED", {"said": [{"hi": 1}]})


def test_a_link_brings_an_input_of_the_other_graph(api: FlaskClient, push: Push, submit: Submit, work: Work) -> None:
    document = graph("AgentExecutor", executor(push(), word="literal"), "said", word="question")
    run_id = submit(document, {"question": "delivered"})
    work(run_id)
    [child] = children(run_id)
    work(child)
    work(run_id)
    assert result(api, run_id) == ("COMPLETED", {"said": ["delivered"]})


def test_a_sub_graph_node_as_it_is_exported_runs_the_graph_as_its_submitter(
    api: FlaskClient, push: Push, submit: Submit, work: Work
) -> None:
    """Whoever's `user_id` it says; the name is for people."""
    given = {**executor(push(), word="hi"), "user_id": str(UUID(int=7)), "agent_name": "Echo"}
    run_id = submit(graph("AgentExecutor", given, "said"))
    work(run_id)
    [child] = children(run_id)
    listed: Any = api.get(f"/api/v1/runs/{child}").json
    assert listed["inputs"] == {"word": "hi"}
    assert listed["parent"] == {"run_id": str(run_id), "node_id": "it", "index": 1}
    (line,) = (one for one in api.get("/api/v1/runs").json["items"] if one["id"] == str(child))
    assert line["parent"] == listed["parent"]
    work(child)
    work(run_id)
    assert result(api, run_id) == ("COMPLETED", {"said": ["hi"]})


def test_a_child_that_is_cancelled_by_itself_ends_the_node_failed_on_its_error_pin(
    api: FlaskClient, push: Push, submit: Submit, work: Work
) -> None:
    given = {**executor(push(), word="hi"), "agent_name": "Echo"}
    run_id = submit(graph("AgentExecutor", given, "said", "error"))
    work(run_id)
    [child] = children(run_id)
    assert api.post(f"/api/v1/runs/{child}/cancel", json={"reason": "not now"}).status_code == 202
    work(child)
    assert result(api, child)[0] == "CANCELLED"
    work(run_id)
    assert result(api, run_id) == ("COMPLETED", {"error": ["the run of Echo was cancelled: not now"]})
    shown: Any = api.get(f"/api/v1/runs/{run_id}/nodes?node=it").json
    assert shown["items"][0]["status"] == "FAILED"
    assert shown["items"][0]["child_runs"] == [str(child)], "so that one finds what failed in it"


def failing_child() -> dict[str, Any]:
    """Says something, then fails."""
    document = graph("RemoveFromList", {"list": [1, 2], "index": 5})
    spoken = graph("AgentInput", {"name": "word", "value": "first"}, "result")
    spoken["nodes"][1]["input_default"]["name"] = "said"
    return {
        "name": "fails",
        "nodes": [*spoken["nodes"], {**document["nodes"][0], "id": "bad"}],
        "links": spoken["links"],
    }


def test_the_outputs_of_a_graph_that_fails_go_out_before_its_error(
    api: FlaskClient, push: Push, submit: Submit, work: Work
) -> None:
    run_id = submit(graph("AgentExecutor", {**executor(push(failing_child())), "input_schema": {}}, "said", "error"))
    work(run_id)
    [child] = children(run_id)
    work(child)
    assert result(api, child)[0] == "FAILED"
    work(run_id)
    status, outputs = result(api, run_id)
    assert (status, outputs["said"]) == ("COMPLETED", ["first"])
    [message] = outputs["error"]
    assert message.startswith("the run of graph ")
    assert "failed: " in message


def test_a_graph_that_is_gone_by_then_fails_the_node(api: FlaskClient, push: Push, submit: Submit, work: Work) -> None:
    child = push()
    run_id = submit(graph("AgentExecutor", executor(child, word=1), "said", "error"))
    assert api.delete(f"/api/v1/graphs/{child}").status_code == 204
    work(run_id)
    status, outputs = result(api, run_id)
    assert (status, list(outputs)) == ("COMPLETED", ["error"])
    assert f"there is no graph {child}" in outputs["error"][0]


def test_a_disabled_block_is_known_but_does_not_run(api: FlaskClient) -> None:
    reply = api.post("/api/v1/runs", json={"graph": graph("PrintToConsole", {"text": "x"}), "inputs": {}})
    assert reply.status_code == 422
    assert "PrintToConsole is disabled" in str(reply.json)
