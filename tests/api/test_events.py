"""Event streams: every event once, in order, from wherever a subscriber left off, until the run has ended."""

import json
import threading

import pytest
from sqlalchemy import text

from agentflow.services.transaction import transaction


def parse(reply) -> list[dict]:
    """The events in a finished stream; each carries its own id."""
    blocks = [block for block in reply.text.split("\n\n") if block and not block.startswith((":", "retry:"))]
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


def test_an_event_is_not_told_before_what_may_still_come_before_it(api, submit, work, environment):
    """An older transaction that still runs may yet write an event with a lower id."""
    run = submit(inputs={"word": "hi"})
    with transaction() as older:
        older.execute(text("SELECT pg_current_xact_id()"))
        work(run)
        held_back = api.get(f"/api/v1/runs/{run}/events", buffered=False)
        chunks = iter(held_back.response)
        assert b"retry" in next(chunks)
        assert b"QUEUED" in next(chunks)  # committed before the older one began
        older.commit()
    rest = b"".join(chunks)
    held_back.close()
    assert rest.count(b"event: settled") == 2
    assert b'"kind":"run"' in rest.split(b"\n\n")[-2]


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


def test_streams_are_limited_and_their_places_come_back(app, api, submit):
    run = submit()
    slots = app.extensions["event_streams"]
    open_ones = []
    while True:
        reply = api.get(f"/api/v1/runs/{run}/events", buffered=False)
        if reply.status_code != 200:
            break
        open_ones.append(reply)
    assert reply.status_code == 503
    assert reply.headers["Retry-After"] == "1"
    assert len(open_ones) == 8
    open_ones.pop().close()  # a client that goes away before it has read anything
    slots.take()
    slots.give_back()
    for left in open_ones:
        left.close()
