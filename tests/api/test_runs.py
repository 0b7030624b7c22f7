"""Looking at runs: what went in, what came out, where they stand; and cancelling them."""

import json
from functools import reduce

import pytest
from sqlalchemy import text

from agentflow.engine.codec import dumps
from agentflow.services.transaction import transaction

STEP = "f66a3543-28d3-4ab5-8945-9b336371e2ce"
OUTPUT = "363ae599-353e-4804-937e-b2ee3cef3da4"
FIND = "262ca24c-1025-43cf-a578-534e23234e97"
TEMPLATE = "db7d8f02-2f44-4c55-ab7a-eae0941f0c30"


@pytest.fixture
def stepping(echo):
    """A graph that gives each item of what it gets."""
    echo["nodes"].append({"id": "step", "block_id": STEP})
    echo["links"] = [
        {"source_id": "in", "source_name": "result", "sink_id": "step", "sink_name": "items"},
        {"source_id": "step", "source_name": "item", "sink_id": "out", "sink_name": "value"},
    ]
    return echo


def test_a_run_that_has_ended_tells_everything(api, echo, work):
    value = {"z": [1, None, True, 2.5], "a": 12345678901234567890123, "n": "nul \x00", "s": "😀 \ud800"}
    # The test client's own JSON would sort the keys.
    reply = api.post("/api/v1/runs", data=json.dumps({"graph": echo, "inputs": {"word": value}}))
    run = reply.json["id"]
    work(run)
    seen = api.get(f"/api/v1/runs/{run}").json
    assert seen["status"] == "COMPLETED"
    assert seen["inputs"] == {"word": value}
    assert seen["outputs"] == {"said": [value]}
    assert list(seen["outputs"]["said"][0]) == list(value)
    assert (seen["stats"]["node_count"], seen["stats"]["node_error_count"]) == (2, 0)
    assert seen["created_at"] <= seen["started_at"] <= seen["ended_at"]


@pytest.mark.parametrize(
    "value",
    [
        {"\ud800": {"\udfff": "\ud800"}},
        reduce(lambda inner, _: [inner], range(700), "deep"),
    ],
    ids=["half surrogate pairs", "deep nesting"],
)
def test_whatever_a_block_gave_can_be_read(api, submit, work, value):
    run = submit(inputs={"word": 1})
    work(run)
    with transaction() as session:
        stored = {"value": dumps(value), "run": run}
        session.execute(text("UPDATE outputs SET value = :value WHERE run_id = :run AND pin <> 'name'"), stored)
    assert api.get(f"/api/v1/runs/{run}").json["outputs"] == {"said": [value]}
    assert api.get(f"/api/v1/runs/{run}/outputs").json["items"][0]["value"] == value
    nodes = api.get(f"/api/v1/runs/{run}/nodes").json["items"]
    assert [one["inputs"]["value"] for one in nodes] == [value, value]
    events = api.get(f"/api/v1/runs/{run}/events").text
    assert f'"value":{dumps(value)}' in events


def test_an_open_run_counts_its_node_executions(api, submit, work):
    run = submit(inputs={"word": 1})
    work(run, most=1)
    stats = api.get(f"/api/v1/runs/{run}").json["stats"]
    assert (stats["node_count"], stats["node_error_count"]) == (1, 0)
    assert stats["node_executions"] == {"COMPLETED": 1, "QUEUED": 1}


def test_outputs_come_in_order_and_in_pages(api, submit, stepping, work):
    run = submit(stepping, {"word": list(range(7))})
    work(run)
    assert api.get(f"/api/v1/runs/{run}").json["outputs"] == {"said": list(range(7))}
    seen, after = [], ""
    while True:
        page = api.get(f"/api/v1/runs/{run}/outputs?limit=3{after}").json
        seen += [(one["name"], one["value"], one["node_id"], one["index"]) for one in page["items"]]
        if page["next_cursor"] is None:
            break
        after = f"&after={page['next_cursor']}"
    assert seen == [("said", number, "out", number + 1) for number in range(7)]
    assert api.get(f"/api/v1/runs/{run}/outputs?name=other").json["items"] == []
    assert len(api.get(f"/api/v1/runs/{run}/outputs?name=said").json["items"]) == 7


def test_a_formatted_output_is_known_by_its_nodes_name(api, submit, echo, work):
    echo["nodes"][1]["input_default"]["format"] = "<{{ said }}>"
    run = submit(echo, {"word": "hi"})
    work(run)
    assert api.get(f"/api/v1/runs/{run}").json["outputs"] == {"said": ["<hi>"]}
    assert len(api.get(f"/api/v1/runs/{run}/outputs?name=said").json["items"]) == 1


def test_node_executions_show_what_they_got_and_gave(api, submit, stepping, work):
    run = submit(stepping, {"word": ["a", "b"]})
    work(run)
    items = {one["id"]: one for one in api.get(f"/api/v1/runs/{run}/nodes").json["items"]}
    assert list(items) == ["in/1", "out/1", "out/2", "step/1"]
    assert items["in/1"]["inputs"] == {"name": "word", "value": ["a", "b"]}
    assert items["step/1"]["inputs"] == {"items": ["a", "b"]}
    assert items["step/1"]["outputs"]["item"] == ["a", "b"]
    assert items["out/2"]["inputs"] == {"name": "said", "value": "b"}
    assert items["out/2"]["outputs"] == {"output": ["b"], "name": ["said"]}
    assert (items["out/2"]["status"], items["out/2"]["attempt"], items["out/2"]["block"]) == (
        "COMPLETED",
        1,
        "AgentOutput",
    )


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("node=out", ["out/1", "out/2", "out/3"]),
        ("node=out&index=2", ["out/2"]),
        ("status=QUEUED", ["out/2", "out/3"]),
        ("node=ghost", []),
        ("limit=1", ["in/1"]),
    ],
)
def test_node_executions_are_filtered(api, submit, stepping, work, query, found):
    run = submit(stepping, {"word": ["a", "b", "c"]})
    work(run, most=2)
    api.get(f"/api/v1/runs/{run}/nodes")
    work(run, most=1)
    assert [one["id"] for one in api.get(f"/api/v1/runs/{run}/nodes?{query}").json["items"]] == found


def test_pages_of_node_executions_meet_without_a_gap(api, submit, stepping, work):
    run = submit(stepping, {"word": list(range(5))})
    work(run)
    seen, after = [], ""
    while True:
        page = api.get(f"/api/v1/runs/{run}/nodes?limit=2{after}").json
        seen += [one["id"] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        after = f"&after={page['next_cursor']}"
    assert seen == ["in/1", *(f"out/{number}" for number in range(1, 6)), "step/1"]


def test_a_failed_node_execution_says_why(api, submit, echo, work):
    echo["nodes"].append({"id": "item", "block_id": FIND, "input_default": {"list": [1], "index": 5}})
    run = submit(echo, {"word": 1})
    work(run)
    seen = api.get(f"/api/v1/runs/{run}").json
    assert (seen["status"], seen["reason"]) == ("FAILED", "node_failed")
    failed = api.get(f"/api/v1/runs/{run}/nodes?status=FAILED").json["items"]
    assert [one["id"] for one in failed] == ["item/1"]
    assert failed[0]["error"]
    assert failed[0]["reason"]
    assert failed[0]["outputs"]["error"] == [failed[0]["error"]]


def test_what_waits_says_for_which_pins(api, submit, echo, work):
    echo["nodes"].append({"id": "t", "block_id": TEMPLATE, "input_default": {"format": "{{a}}{{b}}"}})
    echo["nodes"].append({"id": "silent", "block_id": echo["nodes"][0]["block_id"], "input_default": {"name": "b"}})
    echo["links"] += [
        {"source_id": "in", "source_name": "result", "sink_id": "t", "sink_name": "values_#_a"},
        {"source_id": "silent", "source_name": "result", "sink_id": "t", "sink_name": "values_#_b"},
    ]
    run = submit(echo, {"word": 1})
    work(run)
    left = api.get(f"/api/v1/runs/{run}/nodes?status=INCOMPLETE").json["items"]
    assert [(one["id"], one["waiting_for"]) for one in left] == [("t/1", ["values_#_b"])]
    assert left[0]["inputs"]["values"] == {"a": 1}


def test_long_values_are_cut_in_lists_and_whole_when_asked_for(api, submit, work):
    long = "x" * 100_000
    run = submit(inputs={"word": long})
    work(run)
    listed = api.get(f"/api/v1/runs/{run}/nodes?node=out").json["items"][0]
    assert listed["outputs"]["output"][0]["$truncated"]["bytes"] == len(long) + 2
    assert listed["inputs"]["value"]["$truncated"]["preview"].startswith('"xxx')
    assert listed["outputs_truncated"]
    whole = api.get(f"/api/v1/runs/{run}/nodes?node=out&values=full").json["items"][0]
    assert whole["outputs"]["output"] == [long]
    assert api.get(f"/api/v1/runs/{run}").json["outputs_truncated"]
    assert api.get(f"/api/v1/runs/{run}/outputs").json["items"][0]["value"] == long


def test_secrets_are_shown_nowhere(api, submit, echo, work):
    echo["nodes"][0]["input_default"]["secret"] = True
    echo["links"] = []
    echo["nodes"][1]["input_default"]["value"] = 1
    run = submit(echo, {"word": "hunter2"})
    work(run)
    for path in ("", "/nodes?values=full", "/outputs", "/events"):
        reply = api.get(f"/api/v1/runs/{run}{path}")
        assert reply.status_code == 200
        assert "hunter2" not in reply.text


def test_a_secret_that_leaves_the_graph_by_a_secret_output_is_shown_nowhere(api, submit, echo, work):
    for node in echo["nodes"]:
        node["input_default"]["secret"] = True
    run = submit(echo, {"word": "hunter2"})
    work(run)
    assert list(api.get(f"/api/v1/runs/{run}").json["outputs"].values()) == [["**********"]]
    for path in ("", "/nodes?values=full", "/outputs", "/events"):
        reply = api.get(f"/api/v1/runs/{run}{path}")
        assert reply.status_code == 200
        assert "hunter2" not in reply.text


def test_what_a_secret_is_delivered_to_does_not_show_it(api, submit, echo, work):
    echo["nodes"][0]["input_default"]["secret"] = True
    run = submit(echo, {"word": "hunter2"})
    work(run, most=1)
    listed = api.get(f"/api/v1/runs/{run}/nodes").json["items"]
    assert [one["inputs"]["value"] for one in listed] == ["**********"] * 2


def test_a_run_is_cancelled_once_and_for_all(api, submit, work):
    run = submit(inputs={"word": 1})
    first = api.post(f"/api/v1/runs/{run}/cancel")
    assert first.status_code == 202
    assert first.json["cancel_requested_at"]
    assert api.get(f"/api/v1/runs/{run}").json["cancel_requested_at"] == first.json["cancel_requested_at"]
    again = api.post(f"/api/v1/runs/{run}/cancel", json={"reason": "twice"})
    assert again.status_code == 202
    work(run)
    assert api.get(f"/api/v1/runs/{run}").json["status"] == "CANCELLED"
    late = api.post(f"/api/v1/runs/{run}/cancel")
    assert late.status_code == 409
    assert late.json["type"] == "urn:agentflow:problem:already-ended"


def test_runs_are_listed_the_newest_first_and_filtered(api, push, work, submit):
    graph = push()
    ids = [
        api.post(
            f"/api/v1/graphs/{graph}/runs", json={"inputs": {"word": 1}, "labels": {"n": str(number), "all": "yes"}}
        ).json["id"]
        for number in range(3)
    ]
    other = str(submit())
    work(ids[0])

    def listed(query: str = "") -> list[str]:
        return [one["id"] for one in api.get(f"/api/v1/runs{query}").json["items"]]

    assert listed() == [other, *ids[::-1]]
    assert listed(f"?graph_id={graph}") == ids[::-1]
    assert listed("?status=COMPLETED") == [ids[0]]
    assert listed("?label=n=1") == [ids[1]]
    assert listed("?label=n=1&label=all=yes") == [ids[1]]
    assert listed("?label=n=1&label=all=no") == []
    assert listed("?created_after=2020-01-01T00:00:00Z&limit=1") == [other]
    assert listed("?created_before=2020-01-01T00:00:00Z") == []
    page = api.get("/api/v1/runs?limit=3").json
    assert listed(f"?after={page['next_cursor']}") == [ids[0]]


def test_nobody_sees_anothers_run(api, stranger, submit):
    run = submit()
    for path in ("", "/nodes", "/outputs", "/events"):
        assert stranger.get(f"/api/v1/runs/{run}{path}").status_code == 404
    assert stranger.post(f"/api/v1/runs/{run}/cancel").status_code == 404
    assert stranger.get("/api/v1/runs").json["items"] == []
    assert api.get(f"/api/v1/runs/{run}").json["cancel_requested_at"] is None
