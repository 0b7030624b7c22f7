"""Event streams: every event once, in order, from wherever a subscriber left off, until the run has ended."""

import json
import logging
import threading
from contextlib import closing

import psycopg
import pytest
from installation import ECHO, _caller, _key
from people import person, signed_in, with_key

from agentflow.accounts.scopes import Role


def parse(reply) -> list[dict]:
    """The events in a finished stream; each carries its own id."""
    text = reply.text
    reply.close()  # as a server does; the stream's place is free then
    blocks = [block for block in text.split("\n\n") if block and not block.startswith((":", "retry:"))]
    events = []
    for block in blocks:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        event = json.loads(fields["data"])
        assert (fields["id"], fields["event"]) == (event["id"], event["kind"])
        events.append(event)
    return events


def test_an_ended_run_tells_its_whole_story(api, submit, work):
    run = submit(inputs={"word": "hi"})
    work(run)
    reply = api.get(f"/api/v1/runs/{run}/events")
    assert reply.status_code == 200
    assert reply.mimetype == "text/event-stream"
    assert reply.text.startswith("retry: ")
    events = parse(reply)
    assert [(one["kind"], one["status"], one["node_id"]) for one in events] == [
        ("run", "QUEUED", None),
        ("run", "RUNNING", None),
        ("claimed", "RUNNING", "in"),
        ("settled", "COMPLETED", "in"),
        ("claimed", "RUNNING", "out"),
        ("settled", "COMPLETED", "out"),
        ("run", "COMPLETED", None),
    ]
    out = events[-2]
    assert (out["title"], out["index"], out["attempt"], out["is_output"]) == ("AgentOutput", 1, 1, True)
    assert [(one["pin"], one["value"]) for one in out["outputs"]] == [("output", "hi"), ("name", "said")]


@pytest.mark.parametrize("by", ["header", "query"])
def test_a_stream_goes_on_where_it_was_left(api, submit, work, by):
    run = submit(inputs={"word": "hi"})
    work(run)
    everything = parse(api.get(f"/api/v1/runs/{run}/events"))
    for place, event in enumerate(everything[:-1], 1):
        if by == "header":
            reply = api.get(f"/api/v1/runs/{run}/events", headers={"Last-Event-ID": event["id"]})
        else:
            reply = api.get(f"/api/v1/runs/{run}/events?after={event['id']}")
        assert parse(reply) == everything[place:]


def test_who_has_seen_everything_is_told_to_stay_away(api, submit, work):
    run = submit(inputs={"word": "hi"})
    work(run)
    last = parse(api.get(f"/api/v1/runs/{run}/events"))[-1]
    assert api.get(f"/api/v1/runs/{run}/events", headers={"Last-Event-ID": last["id"]}).status_code == 204


@pytest.mark.parametrize("position", ["x", "1", "1-", "-1", "1-2-3", "9" * 30 + "-1"])
def test_a_place_that_is_none_is_refused(api, submit, position):
    assert api.get(f"/api/v1/runs/{submit()}/events", headers={"Last-Event-ID": position}).status_code == 400


def test_a_stream_follows_a_run_live_and_ends_with_it(app, api, submit, work):
    run = submit(inputs={"word": "hi"})
    seen, begun = [], threading.Event()

    def follow() -> None:
        client = app.test_client()
        client.environ_base.update(api.environ_base)
        reply = client.get(f"/api/v1/runs/{run}/events", buffered=False)
        for chunk in reply.response:
            seen.append(chunk)
            begun.set()
        reply.close()

    thread = threading.Thread(target=follow)
    thread.start()
    assert begun.wait(10)
    work(run)
    thread.join(10)
    assert not thread.is_alive()
    whole = "".join(chunk if isinstance(chunk, str) else chunk.decode() for chunk in seen)
    assert whole.count("event: settled") == 2
    assert '"status":"COMPLETED"' in whole.split("event: run")[-1]


@pytest.mark.parametrize("how", ["key revoked", "key suspended", "user suspended", "session ended", "user deleted"])
def test_a_stream_ends_when_its_reader_may_read_no_more(app, how, eventually):
    person("Ann")
    admin, session, keyed = with_key(app, Role.ADMIN), signed_in(app, "Ann"), with_key(app, Role.ADMIN)
    reader = session if how == "session ended" else keyed
    run = reader.post("/api/v1/runs", json={"graph": ECHO, "allow_missing_inputs": True}).json["id"]
    stream = reader.get(f"/api/v1/runs/{run}/events", buffered=False)
    seen, ended = [], threading.Event()

    def follow() -> None:
        seen.extend(stream.response)
        ended.set()

    threading.Thread(target=follow, daemon=True).start()
    eventually(lambda: seen)
    me = reader.get("/api/v1/me").json
    reply = {
        "key revoked": lambda: admin.delete(f"/api/v1/keys/{me['key_id']}"),
        "key suspended": lambda: admin.patch(f"/api/v1/keys/{me['key_id']}", json={"suspended": True}),
        "user suspended": lambda: admin.patch(f"/api/v1/users/{me['user']['id']}", json={"suspended": True}),
        "session ended": lambda: session.delete("/api/v1/sessions/current"),
        "user deleted": lambda: admin.delete(f"/api/v1/users/{me['user']['id']}"),
    }[how]()
    assert reply.status_code < 300, reply.json
    assert ended.wait(10)
    stream.close()


@pytest.fixture
def bystander(environment):
    """Somebody's transaction that has written, has nothing to do with any run, and never ends by itself."""
    with closing(psycopg.connect(environment.database())) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO users (id, name) VALUES (gen_random_uuid(), 'bystander')")
        yield connection


def test_a_stream_ends_with_its_run_whoever_has_a_transaction_open(api, submit, work, bystander):
    run = submit(inputs={"word": "hi"})
    work(run)
    events = parse(api.get(f"/api/v1/runs/{run}/events"))
    assert [one["kind"] for one in events].count("settled") == 2
    assert (events[-1]["kind"], events[-1]["status"]) == ("run", "COMPLETED")
    last = {"Last-Event-ID": events[-1]["id"]}
    assert api.get(f"/api/v1/runs/{run}/events", headers=last).status_code == 204


def test_an_open_runs_events_come_after_a_while_whoever_has_a_transaction_open(api, submit, work, bystander):
    run = submit(inputs={"word": "hi"})
    work(run, most=1)
    stream = api.get(f"/api/v1/runs/{run}/events", buffered=False)
    seen = b""
    for chunk in stream.response:
        seen += chunk
        if b"event: settled" in seen:
            break
    stream.close()
    assert b"COMPLETED" in seen


def test_long_values_are_left_out_of_events(api, submit, work):
    run = submit(inputs={"word": "x" * 100_000})
    work(run)
    settled = [one for one in parse(api.get(f"/api/v1/runs/{run}/events")) if one["kind"] == "settled"]
    assert settled[0]["outputs"] == [{"pin": "result", "value": None, "truncated": True}]
    assert settled[0]["outputs_truncated"]


def test_a_failure_is_told_with_its_message(api, submit, echo, work):
    echo["nodes"].append(
        {"id": "item", "block_id": "262ca24c-1025-43cf-a578-534e23234e97", "input_default": {"list": [], "index": 5}}
    )
    run = submit(echo)
    work(run)
    failed = [one for one in parse(api.get(f"/api/v1/runs/{run}/events")) if one["status"] == "FAILED"]
    assert [one["kind"] for one in failed] == ["settled", "run"]
    assert failed[0]["error"]


@pytest.fixture
def watch():
    """Opens a stream and leaves it open."""
    replies = []

    def get(caller, run):
        replies.append(caller.get(f"/api/v1/runs/{run}/events", buffered=False))
        return replies[-1]

    yield get
    for reply in replies:
        reply.close()


def test_nobody_gets_all_the_streams_and_their_places_come_back(app, api, stranger, key, submit, watch, caplog):
    run = submit()
    theirs = stranger.post("/api/v1/runs", json={"graph": ECHO, "allow_missing_inputs": True}).json["id"]
    third = _caller(app, _key("third"))
    thirds = third.post("/api/v1/runs", json={"graph": ECHO, "allow_missing_inputs": True}).json["id"]
    mine = [watch(api, run) for _ in range(5)]
    assert [reply.status_code for reply in mine] == [200] * 4 + [429]
    assert [watch(stranger, theirs).status_code for _ in range(4)] == [200] * 4
    full = watch(third, thirds)
    assert (full.status_code, full.json["type"]) == (503, "urn:agentflow:problem:busy")
    assert {reply.headers["Retry-After"] for reply in (mine[-1], full)} == {"1"}
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING or record.exc_info]
    mine[0].close()  # a client that goes away before it has read anything
    assert watch(third, thirds).status_code == 200
    assert watch(api, run).status_code == 503


JSON = {"Accept": "application/json"}


def test_who_takes_no_stream_gets_what_there_is_and_needs_no_place(api, submit, work, watch):
    run = submit(inputs={"word": "hi"})
    first = api.get(f"/api/v1/runs/{run}/events", headers=JSON).json
    assert ([one["status"] for one in first["items"]], first["over"]) == (["QUEUED"], False)
    taken = [watch(api, run) for _ in range(5)]
    assert [one.status_code for one in taken] == [200] * 4 + [429]
    assert api.get(f"/api/v1/runs/{run}/events", headers=JSON).status_code == 200
    work(run)
    last = first["items"][-1]["id"]
    rest = api.get(f"/api/v1/runs/{run}/events?after={last}", headers=JSON).json
    assert rest["over"]
    taken[0].close()
    assert [*first["items"], *rest["items"]] == parse(api.get(f"/api/v1/runs/{run}/events"))
    last = rest["items"][-1]["id"]
    assert api.get(f"/api/v1/runs/{run}/events?after={last}", headers=JSON).json == {"items": [], "over": True}


def test_who_asks_now_and_then_waits_for_nobody_elses_transaction(api, submit, work, bystander):
    run = submit(inputs={"word": "hi"})
    work(run, most=1)
    seen = api.get(f"/api/v1/runs/{run}/events", headers=JSON).json
    assert ("settled", "COMPLETED") in [(one["kind"], one["status"]) for one in seen["items"]]
    assert not seen["over"]


@pytest.mark.parametrize("accept", [None, "*/*", "text/event-stream", "text/event-stream, application/json"])
def test_a_stream_is_what_everybody_else_gets(api, submit, work, accept):
    run = submit(inputs={"word": "hi"})
    work(run)
    reply = api.get(f"/api/v1/runs/{run}/events", headers={"Accept": accept} if accept else {})
    assert reply.mimetype == "text/event-stream"
    reply.close()
