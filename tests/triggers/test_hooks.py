"""What is delivered to a webhook does once what its trigger says, and the trigger lists it."""

import json
import threading
from datetime import timedelta
from uuid import UUID, uuid4

import httpx
import pytest
from hooked import AI_TEXT, HOOKED, INPUT, WAITING
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from senders import SECRET, SENDERS, SIGNED_HEADERS, Sent, github, slack, standard, stripe
from sqlalchemy import text

from agentflow import clock
from agentflow.accounts import store as accounts
from agentflow.accounts import users
from agentflow.api.app import create_app
from agentflow.services.transaction import transaction
from agentflow.triggers import hooks
from agentflow.triggers.schemas import MAX_KEPT
from agentflow.triggers.service import MOST_SECRETS
from agentflow.triggers.signatures import TOLERANCE

SCHEMES = sorted(SENDERS)


@pytest.fixture
def runs(api):
    """The ids of all runs, the newest first."""
    return lambda: [one["id"] for one in api.get("/api/v1/runs?limit=200").json["items"]]


@pytest.fixture
def rejected(api):
    """What a trigger counts and does not list."""
    return lambda made: api.get(f"/api/v1/triggers/{made['id']}").json["rejected"]


@pytest.fixture
def made(trigger, scheme):
    """A trigger that takes what is signed by a scheme."""
    return trigger(scheme=scheme)


def at(made, more=""):
    return f"/api/v1/triggers/{made['id']}{more}"


# --- what it begins


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_each_sender_sends_begins_a_run_with_the_payload(api, trigger, call, work, listed, scheme):
    made = trigger(scheme=scheme)
    sent = SENDERS[scheme]()
    reply = call(made, sent)
    assert (reply.status_code, reply.json["outcome"]) == (202, "run"), reply.json
    work(UUID(reply.json["run_id"]))
    run = api.get(f"/api/v1/runs/{reply.json['run_id']}").json
    assert (run["status"], run["outputs"]) == ("COMPLETED", {"got": [json.loads(sent.body)]})
    (line,) = listed(made)
    payload = json.loads(sent.body)
    assert (line["outcome"], line["run_id"], line["source"]) == ("run", run["id"], "127.0.0.1")
    assert line["delivery_id"] == {
        "standard": sent.headers.get("webhook-id"),
        "github": sent.headers.get("X-GitHub-Delivery"),
        "stripe": payload.get("id"),
        "slack": payload.get("event_id"),
    }[scheme]  # fmt: skip
    expected = {"standard": "invoice.paid", "github": "issues", "stripe": "charge.succeeded", "slack": "app_mention"}
    assert line["event"] == expected[scheme]


@pytest.mark.parametrize("scheme", SCHEMES)
@examples(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_one_byte_that_is_altered_is_refused_and_begins_nothing(made, call, runs, rejected, listed, scheme, data):
    sent = SENDERS[scheme]()
    where = data.draw(st.sampled_from(["body", *SIGNED_HEADERS[scheme]]))
    content = sent.body if where == "body" else sent.headers[where].encode()
    place = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0x20, 0x7E).filter(lambda one: one != content[place]))
    altered = content[:place] + bytes([byte]) + content[place + 1 :]
    headers = {**sent.headers, where: altered.decode()}
    changed = Sent(altered, sent.headers) if where == "body" else Sent(sent.body, headers)
    before = rejected(made)["count"]
    reply = call(made, changed)
    assert (reply.status_code, reply.json["type"]) == (401, "urn:agentflow:problem:unauthenticated")
    assert (runs(), listed(made)) == ([], [])
    assert rejected(made)["count"] == before + 1


def test_an_unknown_token_is_not_found_whatever_it_looks_like(app, trigger):
    made = trigger()
    known = made["token"]
    for token in ("x", known[:-1], known + "x", known.swapcase(), "hk_" + "A" * 43, "%00", "é" * 50, "a" * 200):
        reply = app.test_client().post(f"/hooks/{token}", json={})
        assert reply.status_code == 404, token
        assert known not in reply.text
    assert app.test_client().get(f"/hooks/{known}").status_code == 405


def test_the_token_stands_nowhere_in_the_database(trigger, rows):
    made = trigger(scheme="github")
    with transaction() as session:
        stored = str(session.execute(text("SELECT t::text, t.secret FROM triggers t")).all())
    assert made["token"] not in stored
    assert SECRET not in stored


def test_a_preset_gives_the_rest_and_the_trigger_is_laid_over_it(api, push, trigger, call, work, hooked):
    hooked["nodes"].append({"id": "ask", "block_id": INPUT, "input_default": {"name": "word"}})
    hooked["nodes"].append({"id": "also", "block_id": INPUT, "input_default": {"name": "more"}})
    graph = str(push(hooked))
    given = {"inputs": {"word": "preset", "more": 1}, "labels": {"from": "preset", "kind": "x"}, "priority": 2}
    preset = api.post("/api/v1/presets", json={"graph_id": graph, "name": "p", **given}).json["id"]
    made = trigger(preset_id=preset, inputs={"word": "trigger"}, labels={"kind": "y"})
    run = api.get(f"/api/v1/runs/{call(made, json={'a': 1}).json['run_id']}").json
    assert run["inputs"] == {"word": "trigger", "more": 1}
    assert (run["labels"], run["priority"], run["graph_id"]) == ({"from": "preset", "kind": "y"}, 2, graph)


def test_a_version_that_is_pinned_stays_and_one_that_is_not_follows(api, push, trigger, call, hooked):
    graph = str(push(hooked))
    pinned, latest = trigger(graph_id=graph, version=1), trigger(graph_id=graph)
    hooked["nodes"][1]["input_default"]["name"] = "other"
    assert api.put(f"/api/v1/graphs/{graph}", json=hooked).json["version"] == 2
    runs = [call(one, json={}).json["run_id"] for one in (pinned, latest)]
    assert [api.get(f"/api/v1/runs/{run}").json["graph_version"] for run in runs] == [1, 2]


def test_of_several_nodes_the_one_that_is_named_gets_it(api, push, trigger, call, work, hooked):
    hooked["nodes"].append({"id": "second", "block_id": hooked["nodes"][0]["block_id"],
                            "input_default": {"payload": {"is": "constant"}}})  # fmt: skip
    graph = str(push(hooked))
    reply = api.post("/api/v1/triggers", json={"name": "x", "graph_id": graph, "scheme": "none"})
    assert reply.status_code == 422
    assert {one["node"] for one in reply.json["errors"]} == {"hook", "second"}
    run_id = call(trigger(graph_id=graph, node="hook"), json={"a": 1}).json["run_id"]
    work(UUID(run_id))
    assert api.get(f"/api/v1/runs/{run_id}").json["outputs"] == {"got": [{"a": 1}]}


# --- once


def test_what_is_delivered_twice_is_answered_with_the_first_ones_run(trigger, call, runs, listed):
    made = trigger(scheme="standard")
    first = call(made, standard({"type": "a"}, id="msg_1")).json
    for body in ({"type": "a"}, {"type": "other"}):
        again = call(made, standard(body, id="msg_1"))
        assert (again.status_code, again.json["outcome"]) == (202, "duplicate")
        assert (again.json["run_id"], again.json["delivery"]) == (first["run_id"], first["delivery"])
    assert runs() == [first["run_id"]]
    (line,) = listed(made)
    assert (line["repeats"], line["repeated_at"] is not None) == (2, True)
    assert call(made, standard(id="msg_2")).json["outcome"] == "run"


def test_two_triggers_count_for_themselves(trigger, call, runs):
    one, other = trigger(scheme="standard"), trigger(scheme="standard")
    assert [call(made, standard(id="msg_1")).json["outcome"] for made in (one, other)] == ["run", "run"]
    assert len(runs()) == 2


@pytest.mark.parametrize("source", [{"header": "X-Order"}, {"path": "$.order.id"}])
def test_the_id_is_where_the_trigger_says(trigger, call, runs, source):
    made = trigger(delivery_id=source)
    for number in (1, 1, 2):
        reply = call(made, json={"order": {"id": number}, "at": str(uuid4())}, headers={"X-Order": str(number)})
        assert reply.status_code == 202
    assert len(runs()) == 2
    assert call(made, json={}).json["outcome"] == "run"  # it does not say: each counts
    assert call(made, json={}).json["outcome"] == "run"


def test_doubles_at_once_begin_one_run(url, trigger, runs, listed):
    made = trigger(scheme="standard")
    sent = [standard({"number": number}, id="msg_1") for number in range(8)]
    begin = threading.Barrier(len(sent))
    replies = []

    def send(one):
        begin.wait()
        replies.append(httpx.post(f"{url}/hooks/{made['token']}", content=one.body, headers=one.headers, timeout=30))

    threads = [threading.Thread(target=send, args=(one,)) for one in sent]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [reply.status_code for reply in replies] == [202] * len(sent)
    (run,) = runs()
    assert {reply.json()["run_id"] for reply in replies} == {run}
    assert sorted(reply.json()["outcome"] for reply in replies) == ["duplicate"] * (len(sent) - 1) + ["run"]
    (line,) = listed(made)
    assert line["repeats"] == len(sent) - 1


def test_a_double_counts_for_nothing_even_when_the_first_is_no_longer_listed(trigger, call, runs, listed):
    made = trigger(scheme="standard", keep=1)
    first = call(made, standard(id="msg_1")).json["run_id"]
    call(made, standard(id="msg_2"))
    again = call(made, standard(id="msg_1"))
    assert (again.status_code, again.json["outcome"], again.json["run_id"]) == (202, "duplicate", first)
    assert len(runs()) == 2
    assert [one["outcome"] for one in listed(made)] == ["duplicate"]
    assert call(made, standard(id="msg_1")).json["run_id"] == first
    assert len(listed(made)) == 1


@examples(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ids=st.lists(st.integers(0, 6), min_size=1, max_size=20), keep=st.integers(1, 8))
def test_each_id_begins_one_run_in_any_order(api, trigger, call, listed, ids, keep):
    made = trigger(delivery_id={"path": "$.id"}, keep=keep)
    found = {}
    for id in ids:
        run = call(made, json={"id": id}).json["run_id"]
        assert found.setdefault(id, run) == run
    assert len(set(found.values())) == len(set(ids))
    assert len(listed(made)) <= keep


# --- what it does not want


def test_only_events_and_payloads_that_are_wanted_do_something(trigger, call, runs, listed):
    wanted = {"events": ["issues"], "conditions": [{"path": "$.action", "operator": "in", "value": ["opened"]}]}
    made = trigger(scheme="github", filter=wanted)
    replies = [
        call(made, github({"action": "opened"})), call(made, github({"action": "closed"})),
        call(made, github({"action": "opened"}, event="push")), call(made, github({"a": 1})),
    ]  # fmt: skip
    assert [reply.status_code for reply in replies] == [202] * 4
    assert [reply.json["outcome"] for reply in replies] == ["run", "ignored", "ignored", "ignored"]
    assert len(runs()) == 1
    lines = listed(made)
    assert [line["outcome"] for line in lines] == ["ignored", "ignored", "ignored", "run"]
    assert ["$.action" in line["reason"] for line in lines[:3]] == [True, False, True]
    assert [one["outcome"] for one in listed(made, outcome="run")] == ["run"]


def test_the_type_of_an_event_is_where_the_trigger_says(trigger, call):
    made = trigger(filter={"events": ["paid"], "event": {"path": "$.what"}})
    assert call(made, json={"what": "paid", "type": "x"}).json["outcome"] == "run"
    ignored = call(made, json={"type": "paid"}).json
    assert (ignored["outcome"], ignored["reason"]) == ("ignored", "it does not say of which type its event is")


def test_what_was_ignored_counts_when_it_is_sent_again_after_the_filter_changed(api, trigger, call, runs):
    made = trigger(scheme="github", filter={"events": ["push"]})
    sent = github(id="7")
    assert call(made, sent).json["outcome"] == "ignored"
    assert api.patch(at(made), json={"filter": {}}).status_code == 200
    assert call(made, sent).json["outcome"] == "run"
    assert call(made, sent).json["outcome"] == "duplicate"
    assert len(runs()) == 1


def test_githubs_ping_and_slacks_challenge_are_answered_and_begin_nothing(trigger, call, runs, listed):
    made = trigger(scheme="github")
    reply = call(made, github({"zen": "Keep it logically awesome.", "hook_id": 1}, event="ping"))
    assert (reply.status_code, reply.json["outcome"]) == (202, "ignored")
    assert listed(made)[0]["event"] == "ping"
    wants_pings = trigger(scheme="github", filter={"events": ["ping"]})
    assert call(wants_pings, github(event="ping")).json["outcome"] == "run"
    asked = {"token": "Jhj5dZrVaK7ZwHHjRyZWjbDl", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P",
             "type": "url_verification"}  # fmt: skip
    of_slack = trigger(scheme="slack")
    reply = call(of_slack, slack(asked))
    assert (reply.status_code, reply.json["challenge"]) == (200, asked["challenge"])
    assert call(of_slack, slack(asked, secret="another secret")).status_code == 401
    assert call(of_slack, slack({**asked, "challenge": "x" * 1000})).json.get("challenge") is None
    assert len([run for run in runs() if run]) == 2


# --- signals


def test_a_run_that_waits_goes_on_with_the_payload(api, submit, work, trigger, call, listed):
    run = submit(WAITING)
    work(run)
    made = trigger(scheme="standard", signal={"name": "paid", "run": "$.data.run"})
    reply = call(made, standard({"data": {"run": str(run), "amount": 5}}, id="msg_1"))
    assert (reply.json["outcome"], reply.json["run_id"]) == ("signal", str(run))
    work(run)
    assert api.get(f"/api/v1/runs/{run}").json["outputs"] == {"got": [{"data": {"run": str(run), "amount": 5}}]}
    assert listed(made)[0]["signal"] == "paid"
    again = call(made, standard({"data": {"run": str(run)}}, id="msg_1"))
    assert (again.status_code, again.json["outcome"]) == (202, "duplicate")
    late = call(made, standard({"data": {"run": str(run)}}, id="msg_2"))
    assert (late.status_code, "has ended" in late.json["detail"]) == (409, True)


def test_the_run_is_found_by_its_labels_the_newest_open_one(submit, work, trigger, call):
    old = submit(WAITING, labels={"order": "7"})
    newest = submit(WAITING, labels={"order": "7", "more": "x"})
    submit(WAITING, labels={"order": "8"})
    made = trigger(signal={"name_path": "$.event", "labels": {"order": "$.order"}})
    assert call(made, json={"order": 7, "event": "paid"}).json["run_id"] == str(newest)
    for run in (newest, old):
        work(run)
    assert call(made, json={"order": "7", "event": "paid"}).json["run_id"] == str(old)
    none = call(made, json={"order": 9, "event": "paid"})
    assert (none.status_code, "no open run has the labels" in none.json["detail"]) == (409, True)


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        ({"run": "x"}, 400), ({"run": 7}, 400), ({"run": None}, 400), ({}, 400), ({"run": {"id": 1}}, 400),
        ({"run": "01890a5d-ac96-774b-bcce-b302099a8057"}, 409), ({"run": "a\0b"}, 400),
    ],
)  # fmt: skip
def test_a_signal_for_no_run_is_refused_and_listed(trigger, call, listed, payload, status):
    made = trigger(signal={"name": "paid", "run": "$.run"})
    reply = call(made, json=payload)
    assert reply.status_code == status, reply.json
    (line,) = listed(made)
    assert (line["outcome"], line["reason"]) == ("refused", reply.json["detail"])


def test_a_signal_reaches_no_run_of_another_user_or_another_graph(api, stranger, app, submit, push, trigger):
    run = submit(WAITING, labels={"order": "7"})
    for terms in ({"run": "$.run"}, {"labels": {"order": "$.order"}}):
        body = {"name": "x", "scheme": "none", "signal": {"name": "paid", **terms}}
        made = stranger.post("/api/v1/triggers", json=body).json
        reply = app.test_client().post(f"/hooks/{made['token']}", json={"run": str(run), "order": "7"})
        assert reply.status_code == 409
        of_graph = trigger(graph_id=str(push()), signal={"name": "paid", **terms})
        reply = app.test_client().post(f"/hooks/{of_graph['token']}", json={"run": str(run), "order": "7"})
        assert reply.status_code == 409


# --- what is refused


def test_a_paused_trigger_refuses_and_lists_and_can_be_made_to_deliver_it_later(api, trigger, call, runs, listed):
    made = trigger(scheme="standard")
    assert api.post(at(made, "/pause"), json={"reason": "we move"}).json["pause_reason"] == "we move"
    sent = standard(id="msg_1")
    reply = call(made, sent)
    assert (reply.status_code, "we move" in reply.json["detail"]) == (409, True)
    (line,) = listed(made)
    assert (line["outcome"], line["delivery_id"], line["size"] > 0) == ("refused", "msg_1", True)
    where = at(made, f"/deliveries/{line['id']}/redeliver")
    assert api.post(where).status_code == 409
    assert api.post(at(made, "/resume")).json["paused_at"] is None
    again = api.post(where)
    assert (again.status_code, again.json["outcome"]) == (202, "run")
    assert call(made, sent).json["outcome"] == "duplicate"
    assert len(runs()) == 1
    assert api.get(at(made)).json["refusals"] == 0


def test_of_a_suspended_owner_nothing_begins(api, app, trigger, call, runs, listed):
    made = trigger()
    me = UUID(api.get("/api/v1/me").json["user"]["id"])
    with transaction() as session:
        accounts.add_user(session, "boss", "admin")
        users.change(session, me, suspended=True)
    reply = call(made, json={"a": 1})
    assert (reply.status_code, reply.json["type"]) == (403, "urn:agentflow:problem:forbidden")
    with transaction() as session:
        users.change(session, me, suspended=False)
    fresh = app.test_client()
    fresh.environ_base["HTTP_AUTHORIZATION"] = api.environ_base["HTTP_AUTHORIZATION"]
    (line,) = fresh.get(at(made, "/deliveries")).json["items"]
    assert (line["outcome"], line["run_id"]) == ("refused", None)
    with transaction() as session:
        users.delete(session, me)
    assert call(made, json={"a": 1}).status_code == 404


def test_a_trigger_whose_graph_is_gone_pauses_itself(api, trigger, call, listed):
    made = trigger()
    assert api.delete(f"/api/v1/graphs/{made['graph_id']}").status_code == 204
    for number in range(hooks.MOST_REFUSALS):
        assert api.get(at(made)).json["paused_at"] is None
        assert call(made, json={"number": number}).status_code == 404
        assert api.get(at(made)).json["refusals"] == number + 1
    seen = api.get(at(made)).json
    assert "deliveries in a row could not begin a run: there is no graph" in seen["pause_reason"]
    (told,) = api.get("/api/v1/notifications").json["items"]
    assert (told["type"], told["data"]["trigger"]) == ("trigger_paused", made["id"])
    assert call(made, json={}).status_code == 409
    assert len(listed(made, outcome="refused")) == hooks.MOST_REFUSALS + 1
    assert api.post(at(made, "/resume")).json["refusals"] == 0


def test_refusals_count_in_a_row_only(api, push, trigger, call, hooked):
    graph = str(push(hooked))
    made = trigger(graph_id=graph)
    broken = {**hooked, "nodes": [*hooked["nodes"], {"id": "n", "block_id": INPUT, "input_default": {"name": "need"}}]}
    for _ in range(3):
        assert api.put(f"/api/v1/graphs/{graph}", json=broken).status_code == 201
        for _ in range(hooks.MOST_REFUSALS - 1):
            reply = call(made, json={})
            assert (reply.status_code, reply.json["type"]) == (422, "urn:agentflow:problem:graph-invalid")
            assert (reply.json["errors"], "need" in reply.text) == ([], False), "who sends is told nothing of the graph"
        assert api.put(f"/api/v1/graphs/{graph}", json=hooked).status_code == 201
        assert call(made, json={}).status_code == 202
        assert api.get(at(made)).json["refusals"] == 0
    assert api.get(at(made)).json["paused_at"] is None


def test_a_credential_that_is_gone_is_refused_with_the_reason_and_counts(api, push, trigger, call, listed, hooked):
    secret = {"type": "api_key", "api_key": "sk-1"}
    credential = api.post("/api/v1/credentials", json={"provider": "openai", "title": "x", "secret": secret}).json["id"]
    hooked["nodes"].append({"id": "ai", "block_id": AI_TEXT, "input_default": {"prompt": "hi"}})
    made = trigger(graph_id=str(push(hooked)), credentials={"openai_api_key_credentials": credential})
    assert call(made, json={}).json["outcome"] == "run"
    assert api.delete(f"/api/v1/credentials/{credential}?force=true").status_code == 204
    assert call(made, json={}).status_code == 422
    assert "credential" in listed(made)[0]["reason"]
    assert api.get(at(made)).json["refusals"] == 1


def test_a_preset_that_is_gone_is_refused_with_the_reason(api, push, trigger, call, listed, hooked):
    preset = api.post("/api/v1/presets", json={"graph_id": str(push(hooked)), "name": "p"}).json["id"]
    made = trigger(preset_id=preset)
    assert api.delete(f"/api/v1/presets/{preset}").status_code == 204
    assert call(made, json={}).status_code == 404
    assert f"there is no preset {preset}" in listed(made)[0]["reason"]
    assert api.get(at(made)).status_code == 200


def test_what_is_not_signed_is_counted_and_not_listed(trigger, call, rejected, listed):
    made = trigger(scheme="stripe")
    for _ in range(3):
        assert call(made, json={}).status_code == 401
    assert call(made, stripe(at=-TOLERANCE - 10)).status_code == 401
    found = rejected(made)
    assert (found["count"], "more than" in found["last_reason"], found["last_at"] is not None) == (4, True, True)
    assert listed(made) == []


def test_what_is_signed_and_cannot_be_read_is_listed_without_a_payload(api, trigger, call, rejected, listed):
    made = trigger(scheme="standard", body="json")
    assert call(made, standard(body=b"{")).status_code == 400
    form = standard(body=b"a=1").having(Content_Type="application/x-www-form-urlencoded")
    assert call(made, form).status_code == 415
    lines = listed(made)
    assert [line["outcome"] for line in lines] == ["refused", "refused"]
    assert ["JSON" in line["reason"] for line in lines] == [True, True]
    assert {line["size"] for line in lines} == {0}
    again = api.post(at(made, f"/deliveries/{lines[0]['id']}/redeliver"))
    assert (again.status_code, "no longer kept" in again.json["detail"]) == (409, True)
    assert rejected(made)["count"] == 0


# --- again, and for how long


def test_a_delivery_can_be_delivered_again_and_counts_again(api, trigger, call, work, runs, listed):
    made = trigger(scheme="standard")
    first = call(made, standard({"type": "t", "n": 1}, id="msg_1")).json
    again = api.post(at(made, f"/deliveries/{first['delivery']}/redeliver"))
    assert (again.status_code, again.json["outcome"]) == (202, "run")
    assert again.json["run_id"] != first["run_id"]
    third = api.post(at(made, f"/deliveries/{again.json['delivery']}/redeliver")).json
    assert len(runs()) == 3
    lines = listed(made)
    assert [line["redelivery_of"] for line in lines] == [first["delivery"], first["delivery"], None]
    assert lines[0]["id"] == third["delivery"]
    assert {line["source"] for line in lines} == {"redelivered", "127.0.0.1"}
    for run in runs():
        work(UUID(run))
        assert api.get(f"/api/v1/runs/{run}").json["outputs"] == {"got": [{"type": "t", "n": 1}]}


def test_the_payload_of_a_delivery_is_shown_without_what_its_names_tell_to_be_secret(api, trigger, call):
    made = trigger()
    delivery = call(made, json={"order": 7, "password": "hush-hush"}).json["delivery"]
    reply = api.get(at(made, f"/deliveries/{delivery}"))
    assert reply.json["payload"]["order"] == 7
    assert "hush-hush" not in reply.text


def test_only_the_newest_deliveries_stay_listed_and_the_newest_payloads(api, trigger, call, listed, monkeypatch):
    made = trigger(keep=5)
    for number in range(12):
        assert call(made, json={"number": number}).status_code == 202
    lines = listed(made)
    assert len(lines) == 5
    shown = [api.get(at(made, f"/deliveries/{line['id']}")).json["payload"]["number"] for line in lines]
    assert shown == [11, 10, 9, 8, 7]
    monkeypatch.setattr(hooks, "MOST_BYTES", 2 * lines[0]["size"] + 2)
    call(made, json={"number": 12})
    assert [line["size"] > 0 for line in listed(made)] == [True, True, False, False, False]


def test_however_many_there_are_no_more_stay_than_may(api, trigger, call, listed):
    made = trigger()
    call(made, json={})
    with transaction() as session:
        session.execute(text(
            "INSERT INTO trigger_deliveries (id, owner_id, trigger_id, outcome, size, source) "
            "SELECT gen_random_uuid(), owner_id, trigger_id, 'ignored', 0, 'x' "
            "FROM trigger_deliveries, generate_series(1, 2 * :most + 1)"
        ), {"most": MAX_KEPT})  # fmt: skip
    for left in (MAX_KEPT + 3, MAX_KEPT, MAX_KEPT):
        call(made, json={})
        with transaction() as session:
            assert session.scalar(text("SELECT count(*) FROM trigger_deliveries")) == left
    assert api.patch(at(made), json={"keep": 1}).status_code == 200
    call(made, json={"last": 1})
    assert len(listed(made)) == 1


def test_pages_of_deliveries_hold_each_once(api, trigger, call, listed):
    made = trigger()
    for number in range(7):
        call(made, json={"number": number})
    found, after = [], None
    while True:
        query = {"limit": 3, **({"after": after} if after else {})}
        page = api.get(at(made, "/deliveries"), query_string=query).json
        found += page["items"]
        if (after := page["next_cursor"]) is None:
            break
    assert found == listed(made)
    other = trigger()
    cursor = api.get(at(made, "/deliveries"), query_string={"limit": 1}).json["next_cursor"]
    assert api.get(at(other, "/deliveries"), query_string={"after": cursor}).status_code == 400


# --- secrets and rates


def test_former_secrets_count_until_their_time_is_over(api, trigger, call, monkeypatch):
    made = trigger(scheme="github")
    rotated = api.post(at(made, "/rotate"), json={"what": "secret", "former_seconds": 600})
    assert (rotated.status_code, rotated.json["token"], rotated.json["url"]) == (200, None, None)
    new = rotated.json["secret"]
    assert call(made, github(secret=new)).status_code == call(made, github()).status_code == 202
    assert call(made, github(secret="neither of them")).status_code == 401
    later = clock.now() + timedelta(seconds=601)
    with monkeypatch.context() as patch:
        for module in ("agentflow.triggers.service", "agentflow.triggers.signatures"):
            patch.setattr(f"{module}.now", lambda: later)
        assert call(made, github(secret=new)).status_code == 202
        assert call(made, github()).status_code == 401
    third = api.post(at(made, "/rotate"), json={"what": "secret", "former_seconds": 0, "secret": "the third one"}).json
    assert (third["secret"], third["former_secrets_until"]) == (None, None)
    assert call(made, github(secret=new)).status_code == 401
    assert call(made, github(secret="the third one")).status_code == 202


def test_only_the_newest_secrets_count_however_often_it_is_rotated(api, trigger, call):
    made = trigger(scheme="github")
    secrets = [SECRET, *(f"secret no {number}" for number in range(MOST_SECRETS + 1))]
    for secret in secrets[1:]:
        body = {"what": "secret", "secret": secret, "former_seconds": 600}
        assert api.post(at(made, "/rotate"), json=body).status_code == 200
    statuses = [call(made, github(secret=secret)).status_code for secret in secrets]
    assert statuses == [401] * (len(secrets) - MOST_SECRETS) + [202] * MOST_SECRETS


def test_a_former_address_stops_at_once(api, app, trigger, call):
    made = trigger()
    rotated = api.post(at(made, "/rotate")).json
    assert rotated["url"].endswith(f"/hooks/{rotated['token']}")
    assert call(made, json={}).status_code == 404
    assert call(rotated, json={}).status_code == 202


def test_too_many_deliveries_are_told_when_to_come_again(environment, monkeypatch, app, trigger, listed):
    made, other = trigger(), trigger()
    monkeypatch.setattr(environment, "hook_rate", 0.05)
    slow = create_app(environment).test_client()
    statuses = [slow.post(f"/hooks/{made['token']}", json={}).status_code for _ in range(6)]
    assert statuses == [202] * 3 + [429] * 3
    reply = slow.post(f"/hooks/{made['token']}", json={})
    assert 1 <= int(reply.headers["Retry-After"]) <= 60
    assert slow.post(f"/hooks/{other['token']}", json={}).status_code == 202
    for _ in range(40):
        last = slow.post("/hooks/unknown", json={}).status_code
    assert last == 429, "an address may call only so often, whatever it calls"
    assert len(listed(made)) == 3


def test_graphs_that_a_webhook_feeds_are_marked(push, api):
    assert api.get(f"/api/v1/graphs/{push(HOOKED)}").json["has_external_trigger"] is True
