"""What is named at one end is found at the other, or refused at both: events, labels, limits, inputs, lanes."""

import json
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from installation import OUTPUT
from pydantic import TypeAdapter, ValidationError

from agentflow.blocks import registry
from agentflow.client import Client
from agentflow.graph.names import MAX_NAME, LabelName, checked_event

pytestmark = pytest.mark.timeout(240, method="thread")

_PROPERTY = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
_NAMES = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.text("ab/.%?#=&+ \\~:;ä\n\0", max_size=8),
    st.sampled_from(["", "x" * MAX_NAME, "x" * (MAX_NAME + 1), "ключ/оплата", "a//b", "/a", "a/", "..", "a/./b"]),
)


def may_be_an_event(name):
    try:
        return checked_event(name) == name
    except ValueError:
        return False


def waits_for(name):
    nodes = [
        {"id": "it", "block_id": registry.by_name("WaitForEvent").id, "input_default": {"name": name}},
        {"id": "out", "block_id": OUTPUT, "input_default": {"name": "came"}},
    ]
    links = [{"source_id": "it", "source_name": "payload", "sink_id": "out", "sink_name": "value"}]
    return {"name": "waits", "nodes": nodes, "links": links}


@_PROPERTY
@given(name=_NAMES)
@example("orders/7/paid")
@example("a%2Fb")
@example("a b?c#d")
def test_an_event_that_can_be_waited_for_can_be_sent(url, key, submit, work, api, name):
    client = Client(url, key)
    run_id = submit(waits_for(name))
    work(run_id)
    if not may_be_an_event(name):
        run = api.get(f"/api/v1/runs/{run_id}").json
        assert run["status"] == "FAILED", "it does not wait for what cannot come"
        assert "name" in run["error"]
        path = f"/api/v1/runs/{run_id}/signals/{quote(name, safe='')}"
        assert api.post(path, json={}).status_code in (308, 400, 404, 405)
        return
    sent = client.signal(run_id, name, {"paid": 1})
    assert (sent.name, sent.taken) == (name, True)
    work(run_id)
    run = api.get(f"/api/v1/runs/{run_id}").json
    assert (run["status"], run["outputs"]) == ("COMPLETED", {"came": [{"paid": 1}]})


def test_a_slash_in_the_name_of_an_event_may_stand_as_it_is(api, submit, work):
    for path in ("orders/7/paid", "orders%2F7%2Fpaid"):
        run_id = submit(waits_for("orders/7/paid"))
        work(run_id)
        sent = api.post(f"/api/v1/runs/{run_id}/signals/{path}", json={"payload": 1})
        assert (sent.status_code, sent.json["taken"]) == (202, True)


@_PROPERTY
@given(name=_NAMES, value=_NAMES)
@example("k" * MAX_NAME, "v" * MAX_NAME)
@example("a=b", "c")
@example("a", "b=c")
def test_a_label_that_can_be_given_can_be_looked_for(api, echo, name, value):
    given = api.post("/api/v1/runs", json={"graph": echo, "inputs": {"word": 1}, "labels": {name: value}})
    asked = api.get("/api/v1/runs", query_string={"label": f"{name}={value}"})
    if given.status_code != 202:
        assert given.status_code == 400
        return
    assert asked.status_code == 200
    assert given.json["id"] in [run["id"] for run in asked.json["items"]]
    cancelled = api.post("/api/v1/runs/cancel", json={"labels": {name: value}})
    assert given.json["id"] in cancelled.json["cancelled"]


def test_the_name_of_a_label_has_no_equals_sign():
    with pytest.raises(ValidationError):
        TypeAdapter(LabelName).validate_python("a=b")


@pytest.mark.parametrize("named", ["a\0b", "a\nb", "", "x" * (MAX_NAME + 1), "\ud800"])
@pytest.mark.parametrize("limit", [{"rate_limit": {"per_second": 1}}, {"concurrency": {"limit": 1}}])
def test_the_key_of_a_limit_is_a_name(api, echo, named, limit):
    ((setting, content),) = limit.items()
    echo["nodes"][0]["settings"] = {setting: {**content, "key": named}}
    body = json.dumps(echo)
    reply = api.post("/api/v1/graphs", data=body, content_type="application/json")
    assert reply.status_code in (400, 422)
    echo["nodes"][0]["settings"] = {setting: {**content, "key": "orders/7 ключ"}}
    assert api.post("/api/v1/graphs", json=echo).status_code == 201


@pytest.mark.parametrize("name", ["two\nlines", "x" * 501, "tab\t"])
def test_an_input_or_output_is_called_so_that_links_can_lead_to_it(api, echo, name):
    for node in (0, 1):
        document = json.loads(json.dumps(echo))
        document["nodes"][node]["input_default"]["name"] = name
        reply = api.post("/api/v1/graphs", json=document)
        assert (reply.status_code, [one["pin"] for one in reply.json["errors"]]) == (422, ["name"])
        assert api.post("/api/v1/graphs?import=true", json=document).status_code == 201, "an import is warned about"


@pytest.mark.parametrize("queue", ["", "a,b", "-x", "a b", "ä", "x" * 64, "gpu\n"])
def test_a_lane_is_named_as_workers_can_say_it(api, echo, queue):
    echo["nodes"][0]["settings"] = {"queue": queue}
    assert api.post("/api/v1/graphs", json=echo).status_code == 422
