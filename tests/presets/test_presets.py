"""A preset gives to a run what it holds, and what a request gives is laid over that."""

from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import text

from agentflow.engine.codec import loads
from agentflow.presets.service import Given, kept
from agentflow.schemas.base import MAX_PAGE
from agentflow.services.secrecy import HIDDEN
from agentflow.services.submissions import Wanted
from agentflow.services.transaction import transaction

NAMES = st.sampled_from("abcd")
INPUTS = st.dictionaries(NAMES, st.integers(), max_size=4)
MASKS = st.dictionaries(NAMES, INPUTS, max_size=3)
LABELS = st.dictionaries(NAMES, st.text(max_size=3), max_size=4)
PRIORITIES = st.none() | st.integers(0, 9)
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture
def save(api, push):
    def make(**body):
        made = api.post("/api/v1/presets", json={"graph_id": str(push()), "name": "mine", **body})
        assert made.status_code == 201, made.json
        return made.json

    return make


def run_of(api, preset, body=None, **headers):
    return api.post(f"/api/v1/presets/{preset}/runs", json=body or {}, headers=headers)


def inputs_of(api, reply):
    assert reply.status_code == 202, reply.json
    return api.get(reply.headers["Location"]).json["inputs"]


@given(
    of=st.builds(Given, INPUTS, MASKS, LABELS, PRIORITIES), over=st.builds(Wanted, INPUTS, MASKS, LABELS, PRIORITIES)
)
def test_what_is_given_wins_by_name_and_nothing_is_lost(of, over):
    found = of.under(over)
    for mine, theirs, both in (
        (of.inputs, over.inputs, found.inputs), (of.labels, over.labels, found.labels),
        *((of.masks.get(node, {}), over.masks.get(node, {}), found.masks[node]) for node in found.masks),
    ):  # fmt: skip
        assert both == {name: theirs.get(name, mine.get(name)) for name in {*mine, *theirs}}
    assert set(found.masks) == {*of.masks, *over.masks}
    assert found.priority == (of.priority if over.priority is None else over.priority)


def test_a_preset_is_saved_found_changed_and_deleted(api, save):
    made = save(inputs={"word": "hi"}, labels={"team": "a"}, priority=7)
    where = f"/api/v1/presets/{made['id']}"
    assert api.get(where).json == made
    assert (made["inputs"], made["labels"]) == ({"word": "hi"}, {"team": "a"})
    assert (made["version"], made["priority"]) == (None, 7)
    changed = api.patch(where, json={"name": "yours", "version": 1, "priority": None}).json
    assert (changed["name"], changed["version"], changed["priority"]) == ("yours", 1, None)
    assert changed["inputs"] == {"word": "hi"}
    assert changed["updated_at"] > made["updated_at"]
    assert api.patch(where, json={"version": None, "inputs": {}}).json["inputs"] == {}
    assert api.get(where).json["version"] is None
    assert api.delete(where).status_code == 204
    assert api.get(where).status_code == api.delete(where).status_code == run_of(api, made["id"]).status_code == 404


def test_it_runs_with_what_it_holds_and_what_is_laid_over(api, save, work):
    preset = save(inputs={"word": "hi"}, labels={"team": "a", "kind": "x"}, priority=7)["id"]
    plain = run_of(api, preset)
    run = api.get(plain.headers["Location"]).json
    assert (run["inputs"], run["labels"], run["priority"]) == ({"word": "hi"}, {"team": "a", "kind": "x"}, 7)
    over = run_of(api, preset, {"inputs": {"word": "ho"}, "labels": {"kind": "y"}, "priority": 2})
    run = api.get(over.headers["Location"]).json
    assert (run["inputs"], run["labels"], run["priority"]) == ({"word": "ho"}, {"team": "a", "kind": "y"}, 2)
    masked = run_of(api, preset, {"nodes_input_masks": {"out": {"value": "masked"}}})
    for reply, said in ((plain, "hi"), (over, "ho"), (masked, "masked")):
        work(reply.json["id"])
        assert api.get(reply.headers["Location"]).json["outputs"] == {"said": [said]}


def test_an_incomplete_preset_is_saved_and_completed_by_the_run(api, push, echo):
    echo["nodes"].append({"id": "two", "block_id": echo["nodes"][0]["block_id"], "input_default": {"name": "more"}})
    graph = str(push(echo))
    preset = api.post("/api/v1/presets", json={"graph_id": graph, "name": "half", "inputs": {"word": 1}}).json["id"]
    assert run_of(api, preset, {"inputs": {"more": 2}}).status_code == 202


def test_a_key_stands_for_the_request_even_if_the_preset_changes(api, save):
    preset = save(inputs={"word": "hi"})["id"]
    key = {"Idempotency-Key": "k"}
    first = run_of(api, preset, **key)
    api.patch(f"/api/v1/presets/{preset}", json={"inputs": {"word": "ho"}})
    again = run_of(api, preset, **key)
    assert (again.json["id"], again.headers["Idempotent-Replay"]) == (first.json["id"], "true")
    assert inputs_of(api, again) == {"word": "hi"}
    assert run_of(api, preset, {"inputs": {"word": 1}}, **key).status_code == 422
    other = save()["id"]
    assert run_of(api, other, **key).status_code == 422


def test_a_version_that_is_pinned_stays_and_one_that_is_not_follows(api, save, echo):
    made = save(inputs={"word": "hi"})
    graph = made["graph_id"]
    pinned = api.post(
        "/api/v1/presets", json={"graph_id": graph, "name": "old", "version": 1, "inputs": {"word": 1}}
    ).json["id"]
    echo["nodes"][1]["input_default"]["name"] = "told"
    assert api.put(f"/api/v1/graphs/{graph}", json=echo).json["version"] == 2
    assert run_of(api, made["id"]).json["graph_version"] == 2
    assert run_of(api, pinned).json["graph_version"] == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"graph_id": str(uuid4())}, 404),
        ({"version": 9}, 404),
        ({"name": ""}, 400),
        ({"name": "a\0b"}, 400),
        ({"inputs": {"a\0b": 1}}, 400),
        ({"priority": 10}, 400),
        ({"priority": True}, 400),
        ({"version": 0}, 400),
        ({"nodes_input_masks": {"out": {"vlaue": 1}}}, 422),
        ({"unknown": 1}, 400),
        ({"labels": {"": "x"}}, 400),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_saved(api, save, body, status):
    made = save()
    reply = api.post("/api/v1/presets", json={"graph_id": made["graph_id"], "name": "x", **body})
    assert reply.status_code == status, reply.json
    assert [one["id"] for one in api.get("/api/v1/presets").json["items"]] == [made["id"]]
    if "graph_id" not in body and "unknown" not in body:
        assert api.patch(f"/api/v1/presets/{made['id']}", json=body).status_code == status
        assert api.get(f"/api/v1/presets/{made['id']}").json == made


def test_a_value_that_is_too_large_and_more_than_one_may_store_are_refused(api, save, environment, monkeypatch):
    graph = save()["graph_id"]
    monkeypatch.setattr(environment, "max_value_bytes", 100)
    large = api.post("/api/v1/presets", json={"graph_id": graph, "name": "x", "inputs": {"word": "y" * 200}})
    assert large.status_code == 413
    monkeypatch.setattr(environment, "max_value_bytes", 10_000)
    monkeypatch.setattr(environment, "max_stored_bytes", 20_000)
    statuses = []
    for number in range(200):
        body = {"graph_id": graph, "name": str(number), "inputs": {"word": uuid4().hex * 30}}
        statuses.append(api.post("/api/v1/presets", json=body).status_code)
        if statuses[-1] == 413:
            break
    assert statuses[0] == 201
    assert statuses[-1] == 413
    assert len(api.get("/api/v1/presets?limit=200").json["items"]) == 1 + statuses.count(201)


def test_deleting_a_graph_deletes_its_presets(api, save):
    made, kept = save(), save()
    assert api.delete(f"/api/v1/graphs/{made['graph_id']}").status_code == 204
    assert [one["id"] for one in api.get("/api/v1/presets").json["items"]] == [kept["id"]]


def test_all_pages_hold_each_once_and_a_graphs_presets_only_its_own(api, save):
    graph = save()["graph_id"]
    other = save()
    names = [str(number) for number in range(MAX_PAGE + 5)]
    for name in names:
        assert api.post("/api/v1/presets", json={"graph_id": graph, "name": name}).status_code == 201
    found, after = [], None
    while True:
        query = {"graph_id": graph, "limit": 100, **({"after": after} if after else {})}
        page = api.get("/api/v1/presets", query_string=query).json
        found += page["items"]
        if (after := page["next_cursor"]) is None:
            break
    assert [one["name"] for one in found] == [*reversed(names), "mine"]
    assert other["id"] not in {one["id"] for one in found}
    cursor = api.get("/api/v1/presets", query_string={"graph_id": graph, "limit": 1}).json["next_cursor"]
    assert api.get("/api/v1/presets", query_string={"after": cursor}).status_code == 400


def test_a_stranger_finds_nothing_of_it(api, stranger, save):
    made = save()
    where = f"/api/v1/presets/{made['id']}"
    assert stranger.get("/api/v1/presets").json["items"] == []
    for reply in (
        stranger.get(where), stranger.patch(where, json={"name": "x"}), stranger.delete(where),
        run_of(stranger, made["id"]),
        stranger.post("/api/v1/presets", json={"graph_id": made["graph_id"], "name": "x"}),
    ):  # fmt: skip
        assert reply.status_code == 404
    assert api.get(where).json == made


@examples(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=VALUES)
def test_a_value_comes_back_as_it_was_given(api, save, value):
    reply = api.post("/api/v1/presets", json={"graph_id": save()["graph_id"], "name": "v", "inputs": {"word": value}})
    if reply.status_code == 201:
        assert api.get(f"/api/v1/presets/{reply.json['id']}").json["inputs"] == {"word": value}
    else:
        assert reply.status_code in (400, 413, 422)


def test_a_secret_is_shown_to_nobody_and_kept_where_it_is_sent_back_as_it_is_shown(api, push, save):
    ask = {"id": "ask", "block_id": "AgentInput", "input_default": {"name": "word", "secret": True}}
    plain = {"id": "plain", "block_id": "AgentInput", "input_default": {"name": "plain"}}
    send = {"id": "send", "block_id": "SendWebRequest", "input_default": {"url": "http://127.0.0.1:1/"}}
    graph_id = push({"name": "g", "nodes": [ask, plain, send], "links": []})
    masks = {"send": {"headers": {"Authorization": "hush-mask", "Accept": "open"}}}
    made = save(graph_id=str(graph_id), inputs={"word": "hush-input", "plain": "open"}, nodes_input_masks=masks)
    url = f"/api/v1/presets/{made['id']}"
    listed = api.get("/api/v1/presets")
    assert "hush" not in str(made) + listed.text + api.get(url).text
    assert made["inputs"] == {"word": HIDDEN, "plain": "open"}
    assert made["nodes_input_masks"]["send"]["headers"]["Accept"] == "open"

    def stored():
        with transaction() as session:
            return loads(session.scalar(text("SELECT given FROM presets")))

    sent = {"inputs": {**made["inputs"], "plain": "new"}, "nodes_input_masks": made["nodes_input_masks"]}
    changed = api.patch(url, json=sent)
    assert (changed.status_code, "hush" in changed.text) == (200, False)
    assert stored()["inputs"] == {"word": "hush-input", "plain": "new"}
    assert stored()["masks"] == masks
    assert api.patch(url, json={"inputs": {"word": "hush-again"}}).json["inputs"] == {"word": HIDDEN}
    assert stored()["inputs"] == {"word": "hush-again"}


@given(VALUES, VALUES)
def test_what_is_sent_as_it_was_told_stays_and_all_else_is_new(old, other):
    assert kept(HIDDEN, HIDDEN, old) == old
    assert kept({"a": HIDDEN, "b": other}, {"a": HIDDEN, "b": 1}, {"a": old, "b": 1})["a"] == old
    assert kept(other, other, other) == other
    assert kept({"new": other}, {"a": HIDDEN}, {"a": old}) == {"new": other}
