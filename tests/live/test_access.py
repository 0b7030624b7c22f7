"""Who may watch what; and that whoever may not any more is cut off at once."""

import contextlib
import json
import time
from uuid import uuid4

import httpx
import psycopg
import pytest
from fleet import graph, link, node, until
from live_socket import Socket
from websockets.sync.client import connect

from agentflow.client import ApiError, Client

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(120)]

WAITS = graph(
    [node("wait", "WaitForEvent", name="go"), node("out", "AgentOutput", name="n")], [link("wait:payload", "out:value")]
)


@pytest.fixture
def someone(fleet):
    """Somebody with a key: a client of theirs, with `key`, `key_id`, `user_id`."""
    user = fleet.client.users.create(f"someone-{uuid4().hex[:8]}")
    made = fleet.client.keys.create("theirs", user_id=user.id)
    with Client(fleet.url, made.key) as client:
        client.key, client.key_id, client.user_id = made.key, made.id, user.id
        yield client


@pytest.fixture
def waiting(someone):
    """A run of theirs that goes on until it is cancelled."""
    run = someone.submit_inline(WAITS).id
    yield run
    with contextlib.suppress(ApiError):
        someone.cancel(run)


def signed_in(fleet, someone) -> tuple[str, str]:
    """The cookie of a session of theirs, and its CSRF token."""
    fleet.client.users.set_password(someone.user_id, "correct horse battery staple")
    name = someone.me().user.name
    reply = httpx.post(f"{fleet.url}/api/v1/sessions", json={"name": name, "password": "correct horse battery staple"})
    assert reply.status_code == 201, reply.text
    return f"agentflow_session={reply.cookies['agentflow_session']}", reply.json()["csrf_token"]


@pytest.mark.parametrize("what", ["revoke the key", "suspend the key", "suspend the user", "delete the user"])
def test_who_may_watch_no_more_is_cut_off_within_a_second(fleet, dial, someone, waiting, what):
    socket = dial(someone.key)
    socket.subscribe(f"run:{waiting}")
    with httpx.stream(
        "GET", f"{fleet.url}/events?channel=run:{waiting}", headers={"Authorization": f"Bearer {someone.key}"}
    ) as stream:
        lines = stream.iter_lines()
        until(lambda: '"subscribed"' in next(lines), "the stream has begun")
        {
            "revoke the key": lambda: fleet.client.keys.revoke(someone.key_id),
            "suspend the key": lambda: fleet.client.keys.suspend(someone.key_id),
            "suspend the user": lambda: fleet.client.users.change(someone.user_id, suspended=True),
            "delete the user": lambda: fleet.client.users.delete(someone.user_id),
        }[what]()
        began = time.monotonic()
        assert socket.closed_with() == 4401
        assert any('"closed"' in line and "4401" in line for line in lines)
        assert time.monotonic() - began < 5  # a second, on a machine that is not busy
    again = dial(None)
    again.send(type="authenticate", key=someone.key)
    assert again.closed_with() == 4401


def test_a_session_may_watch_until_it_ends(fleet, someone, waiting):
    cookie, token = signed_in(fleet, someone)
    address = f"ws://127.0.0.1:{fleet.port}/ws"
    with connect(
        address, additional_headers={"Cookie": cookie}, origin=fleet.url, proxy=None, compression=None
    ) as connection:
        assert json.loads(connection.recv(20))["type"] == "welcome"
        connection.send(json.dumps({"type": "subscribe", "channel": f"run:{waiting}"}))
        assert json.loads(connection.recv(20))["type"] == "subscribed"
        reply = httpx.delete(f"{fleet.url}/api/v1/sessions/current", headers={"Cookie": cookie, "X-CSRF-Token": token})
        assert reply.status_code < 300, reply.text
        assert Socket(connection).closed_with() == 4401


def test_a_page_of_another_site_cannot_use_somebodys_session(fleet, someone):
    cookie, _ = signed_in(fleet, someone)
    for origin in ("https://evil.example", None):
        with connect(
            f"ws://127.0.0.1:{fleet.live_port}/ws", additional_headers={"Cookie": cookie}, origin=origin, proxy=None
        ) as connection:
            assert Socket(connection).closed_with() == 4403


def test_a_browser_sends_its_key_as_the_first_message(fleet, dial):
    socket = dial(None)
    socket.send(type="authenticate", key=fleet.key)
    assert socket.receive()["type"] == "welcome"


@pytest.mark.parametrize(
    "first",
    [
        {"type": "authenticate", "key": "af_nobody"},
        {"type": "subscribe", "channel": "runs"},
        {"type": "authenticate"},
        "no message",
    ],
)
def test_without_a_key_nothing_is_told(dial, first):
    socket = dial(None)
    socket.send(**first) if isinstance(first, dict) else socket.connection.send(first)
    error = socket.receive()
    assert error["type"] == "error"
    assert error["data"]["type"].startswith("urn:agentflow:problem:")
    assert socket.closed_with() == 4401


def test_a_stream_needs_a_key_and_says_so_as_the_api_does(fleet):
    for url in (fleet.url, fleet.live_url):
        reply = httpx.get(f"{url}/events?channel=runs")
        assert (reply.status_code, reply.headers["content-type"]) == (401, "application/problem+json")
        assert reply.json()["type"] == "urn:agentflow:problem:unauthenticated"
        reply = httpx.get(f"{url}/events", headers={"Authorization": f"Bearer {fleet.key}"})
        assert reply.status_code == 400


def test_what_belongs_to_somebody_else_is_not_there(fleet, dial, someone, waiting):
    mine = fleet.client.graphs.create(WAITS).id
    theirs = dial(someone.key)
    stranger = dial(fleet.key)
    for socket, channel in ((stranger, f"run:{waiting}"), (theirs, f"graph:{mine}"), (theirs, f"run:{uuid4()}")):
        socket.send(type="subscribe", channel=channel)
        error = socket.receive()
        assert (error["type"], error["channel"], error["data"]["status"]) == ("error", channel, 404)
    stranger.subscribe("runs")
    someone.signal(waiting, "go", 1)
    until(lambda: someone.get_run(waiting).ended, "their run has ended")
    other = fleet.submit(WAITS)
    assert stranger.receive()["data"]["run_id"] == str(other)
    fleet.client.cancel(other)


def test_a_key_without_the_scope_watches_nothing(fleet, dial, someone):
    made = someone.keys.create("narrow", scopes=["graphs:read"])
    socket = dial(None)
    socket.send(type="authenticate", key=made.key)
    assert socket.receive()["data"]["status"] == 403
    assert socket.closed_with() == 4403
    reply = httpx.get(f"{fleet.live_url}/events?channel=runs", headers={"Authorization": f"Bearer {made.key}"})
    assert reply.status_code == 403


def test_a_key_that_expires_ends_its_connections(fleet, dial, someone):
    made = someone.keys.create("short")
    socket = dial(made.key)
    with psycopg.connect(fleet.database_url) as connection:
        connection.execute("UPDATE api_keys SET expires_at = now() + interval '3 s' WHERE id = %s", [made.id])
    again = dial(made.key)  # verified from the cache: known without an end
    fleet.client.keys.suspend(made.id)
    assert (socket.closed_with(), again.closed_with()) == (4401, 4401)
    second = someone.keys.create("short too")
    with psycopg.connect(fleet.database_url) as connection:
        connection.execute("UPDATE api_keys SET expires_at = now() + interval '3 s' WHERE id = %s", [second.id])
    assert dial(second.key).closed_with() == 4401
