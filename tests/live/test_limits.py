"""Whatever a client does, it gets a clear answer, and nobody else is slowed."""

import contextlib
import json
import socket as sockets
import time

import pytest
from fleet import graph, link, node, until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from agentflow.embedded.private import free_port
from agentflow.live.readers import MAX_SUBSCRIPTIONS, SLOW_SECONDS
from agentflow.live.websocket import MAX_MESSAGE, MAX_MISTAKES

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(180)]


def items(count: int, text: str = "") -> dict:
    return graph(
        [
            node("each", "StepThroughItems", items=[f"{n}{text}" for n in range(count)]),
            node("out", "AgentOutput", name="n"),
        ],
        [link("each:item", "out:value")],
    )


@pytest.mark.parametrize(
    ("message", "about"),
    [
        ("x", "JSON"),
        ("[]", "object"),
        ("{}", "type"),
        ('{"type": "dance"}', "type"),
        ('{"type": "subscribe"}', "channel"),
        ('{"type": "subscribe", "channel": 5}', "channel"),
        ('{"type": "subscribe", "channel": "run"}', "id"),
        ('{"type": "subscribe", "channel": "runs:x"}', "behind"),
        ('{"type": "subscribe", "channel": "moon:1"}', "channel"),
        ('{"type": "subscribe", "channel": "run:1"}', "UUID"),
        ('{"type": "subscribe", "channel": "runs", "after": "1"}', "id of an event"),
        ('{"type": "subscribe", "channel": "runs", "after": "1-2-x"}', "id of an event"),
        ('{"type": "subscribe", "channel": "runs", "after": "' + "9" * 70 + '"}', "id of an event"),
        ('{"type": "subscribe", "channel": "runs", "more": 1}', "more"),
        ('{"type": "unsubscribe", "channel": "runs"}', "does not watch"),
        ("[" * 2000, "JSON"),
        (b"\x00\xff", "binary"),
        ("\x00", "JSON"),
        ('{"type": "subscribe", "channel": "run:\\u0000\\ud800"}', ""),
    ],
)
def test_garbage_is_refused_with_its_place_and_the_connection_goes_on(dial, message, about):
    socket = dial()
    socket.connection.send(message)
    error = socket.receive()
    assert error["type"] == "error"
    assert 400 <= error["data"]["status"] < 500
    assert about in error["data"]["detail"]
    socket.send(type="ping", data="x")
    assert socket.receive() == {"id": None, "type": "pong", "channel": None, "data": "x"}


@pytest.mark.parametrize(
    "frame", [b"\x89\x80\0\0\0\0", b"\x8a\x80\0\0\0\0", b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 50]
)
@pytest.mark.parametrize("with_key", [True, False])
def test_who_floods_with_control_frames_is_cut_off_and_slows_nobody(fleet, dial, frame, with_key):
    """Pings, pongs and empty parts of messages cost the client six bytes each."""
    neighbour = dial()
    flood = dial(key=fleet.key if with_key else None).connection.socket
    frames, began = frame * 5_000, time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() < began + 30:
            flood.sendall(frames)
    assert time.monotonic() < began + 20, "it was cut off"
    asked = time.monotonic()
    neighbour.send(type="ping", data="x")
    assert neighbour.receive()["type"] == "pong"
    assert time.monotonic() < asked + 5


def test_a_few_pings_are_answered(dial):
    connection = dial().connection
    assert all(connection.ping().wait(10) for _ in range(100))


def test_a_message_that_is_no_utf_8_ends_the_connection(dial):
    socket = dial()
    socket.connection.socket.sendall(b"\x81\x82\0\0\0\0\xff\xff")
    assert socket.closed_with() == 1007


def test_a_message_that_is_too_long_ends_the_connection(dial):
    socket = dial()
    with contextlib.suppress(ConnectionClosed):
        socket.connection.send("x" * (MAX_MESSAGE + 1))
    assert socket.closed_with() == 1009


def test_nothing_but_garbage_ends_the_connection(dial):
    socket = dial()
    with contextlib.suppress(ConnectionClosed):
        for _ in range(MAX_MISTAKES + 50):
            socket.connection.send("garbage")
    assert socket.closed_with(60) == 4400


def test_ten_thousand_subscriptions_are_refused_and_nobody_else_is_slowed(fleet, dial):
    greedy, other = dial(), dial()
    runs = [fleet.submit(items(0)) for _ in range(MAX_SUBSCRIPTIONS + 1)]
    for run in runs[:-1]:
        greedy.send(type="subscribe", channel=f"run:{run}", after="99999999999-1")
    answers = [greedy.receive() for _ in range(MAX_SUBSCRIPTIONS)]
    assert {answer["type"] for answer in answers} <= {"subscribed", "over"}
    subscribed = [answer for answer in answers if answer["type"] == "subscribed"]
    assert subscribed
    waits = graph([node("wait", "WaitForEvent", name="go")], [])
    open_runs = [fleet.submit(waits) for _ in range(40)]
    hungry = dial()
    refused = 0
    with contextlib.suppress(ConnectionClosed):
        for number in range(10_000):
            hungry.send(type="subscribe", channel=f"run:{open_runs[number % len(open_runs)]}")
            if number % 50 == 0:
                began = time.monotonic()
                other.send(type="ping")
                assert other.receive()["type"] == "pong"
                assert time.monotonic() - began < 5
    with contextlib.suppress(ConnectionClosed):
        while True:
            answer = json.loads(hungry.connection.recv(20))
            refused += answer["type"] == "error"
    assert refused == MAX_MISTAKES
    assert hungry.connection.protocol.close_code == 4400
    for run in open_runs:
        fleet.client.cancel(run)


def test_one_connection_watches_only_so_many_channels(fleet, dial):
    waits = graph([node("wait", "WaitForEvent", name="go")], [])
    runs = [fleet.submit(waits) for _ in range(MAX_SUBSCRIPTIONS + 1)]
    socket = dial()
    for run in runs[:-1]:
        socket.send(type="subscribe", channel=f"run:{run}", after="99999999999-1")
    for _ in runs[:-1]:
        assert socket.receive()["type"] == "subscribed"
    socket.send(type="subscribe", channel=f"run:{runs[-1]}")
    error = socket.receive()
    assert (error["type"], error["data"]["status"]) == ("error", 429)
    socket.send(type="subscribe", channel="runs", after="1-1-x")
    assert socket.receive()["type"] == "error"
    socket.send(type="unsubscribe", channel=f"run:{runs[0]}")
    assert socket.receive()["type"] == "unsubscribed"
    socket.send(type="subscribe", channel=f"run:{runs[1]}")
    assert "already" in socket.receive()["data"]["detail"]
    socket.subscribe(f"run:{runs[-1]}")
    for run in runs:
        fleet.client.cancel(run)


@pytest.fixture
def small(fleet):
    """The port of a live process that takes four connections."""
    port = free_port()
    before = dict(fleet._environment)
    fleet._environment.update(AGENTFLOW_MAX_LIVE_CONNECTIONS="4", AGENTFLOW_LIVE_PORT=str(port))
    process = fleet._start("small-live", "python", "-m", "agentflow.live")
    fleet._environment.clear()
    fleet._environment.update(before)

    def listens() -> bool:
        with contextlib.suppress(OSError), sockets.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    until(listens, "it listens")
    yield port
    process.terminate()
    process.wait(timeout=20)


def test_nobody_gets_more_than_half_of_the_connections_and_they_come_back(fleet, small):
    other = fleet.client.keys.create("other", user_id=fleet.client.users.create("other one").id).key
    third = fleet.client.keys.create("third", user_id=fleet.client.users.create("third one").id).key

    with contextlib.ExitStack() as stack:

        def open_one(key: str):
            connection = connect(
                f"ws://127.0.0.1:{small}/ws", additional_headers={"Authorization": f"Bearer {key}"}, proxy=None
            )
            return stack.enter_context(connection)

        def refused(key: str) -> int:
            with pytest.raises(ConnectionClosed) as closed:
                open_one(key).recv(20)
            assert closed.value.rcvd is not None
            return closed.value.rcvd.code

        def welcomed(key: str) -> bool:
            with contextlib.suppress(ConnectionClosed):
                return json.loads(open_one(key).recv(20))["type"] == "welcome"
            return False

        mine = [open_one(fleet.key) for _ in range(2)]
        assert [json.loads(one.recv(20))["type"] for one in mine] == ["welcome"] * 2
        assert refused(fleet.key) == 4429
        assert welcomed(other)
        assert welcomed(other)
        assert refused(third) == 1013
        mine[0].close()
        until(lambda: welcomed(third), "a place has come back")


def test_who_receives_nothing_is_cut_off_can_go_on_and_slows_nobody(fleet, dial, stored):
    """More than all buffers take is told to one that does not read; meanwhile others see everything in time."""
    document = items(900, "x" * 7000)
    run = fleet.submit(document)
    fleet.ended(run, 120)
    expected = stored(run)
    slow = sockets.create_connection(("127.0.0.1", fleet.live_port))
    slow.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 32 * 1024)
    sleepy = connect(
        f"ws://127.0.0.1:{fleet.live_port}/ws",
        sock=slow,
        additional_headers={"Authorization": f"Bearer {fleet.key}"},
        proxy=None,
        compression=None,
        max_size=None,
        max_queue=1,
        close_timeout=1,
    )
    with sleepy:
        assert json.loads(sleepy.recv(20))["type"] == "welcome"
        sleepy.send(json.dumps({"type": "subscribe", "channel": f"run:{run}"}))
        began = time.monotonic()
        quick = dial()
        quick.subscribe(f"run:{run}")
        assert [event["id"] for event in quick.until_over()] == expected
        until(lambda: time.monotonic() - began > SLOW_SECONDS + 2, "it was slow for long enough", SLOW_SECONDS + 10)
        told = []
        with contextlib.suppress(ConnectionClosed):
            while True:
                message = json.loads(sleepy.recv(20))
                if message["type"] == "event":
                    told.append(message["id"])
    assert sleepy.protocol.close_code == 4408
    assert told == expected[: len(told)]
    assert len(told) < len(expected)
    again = dial()
    again.subscribe(f"run:{run}", told[-1])
    assert told + [event["id"] for event in again.until_over()] == expected
