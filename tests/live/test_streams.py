"""A subscriber ends up with exactly the events of the database, in their order, over whatever cuts."""

import itertools
import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any
from uuid import UUID

import httpx
import pytest
from fleet import Fleet, graph, link, node, until
from httpx_sse import EventSource
from random_graphs import EVENT, random_graph

from agentflow.client import ApiError
from agentflow.services.events import BATCH

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(240)]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def items(count: int, seconds: float = 0.0) -> dict[str, Any]:
    """A graph with two node executions an item, or three, if one sleeps."""
    nodes = [node("each", "StepThroughItems", items=list(range(count))), node("out", "AgentOutput", name="n")]
    if not seconds:
        return graph(nodes, [link("each:item", "out:value")])
    nodes.append(node("work", "TestSleep", seconds=seconds))
    return graph(nodes, [link("each:item", "work:value"), link("work:value", "out:value")])


def decide(fleet: Fleet, run: UUID, ended: threading.Event) -> None:
    """Approve and signal whatever the run and its child runs wait for, until they have ended."""
    while not ended.wait(0.1):
        for review in fleet.client.reviews(status="WAITING"):
            with suppress(ApiError):
                fleet.client.approve(review.id)
        with suppress(ApiError):
            fleet.client.signal(run, EVENT)


class CutReader(threading.Thread):
    """Reads a run to its end, and breaks its connection again and again, now gently and now not."""

    def __init__(self, dial: Callable[..., Any], run: UUID, rng: Random) -> None:
        super().__init__(daemon=True)
        self.ids: list[str] = []
        self.cuts = 0
        self._dial, self._run, self._rng = dial, run, rng
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._some():
                self.cuts += 1
        except BaseException as error:
            self.failure = error

    def _some(self) -> bool:
        """Read some events; whether these were the last."""
        socket = self._dial()
        socket.send(type="subscribe", channel=f"run:{self._run}", **({"after": self.ids[-1]} if self.ids else {}))
        for _ in range(self._rng.choice([1, 2, 5, 20, 100, 400])):
            message = socket.receive(60)
            if message["type"] == "event":
                self.ids.append(message["id"])
            elif message["type"] == "over":
                return True
        if self._rng.random() < 0.5:
            socket.connection.close()
        else:
            socket.connection.socket.close()
        return False


def test_a_run_is_told_from_its_first_event_to_its_last(fleet, dial, stored):
    run = fleet.submit(items(3))
    socket = dial()
    socket.subscribe(f"run:{run}")
    events = socket.until_over()
    assert [event["id"] for event in events] == stored(run)
    assert {event["channel"] for event in events} == {f"run:{run}"}
    assert (events[-1]["data"]["kind"], events[-1]["data"]["status"]) == ("run", "COMPLETED")


@pytest.mark.parametrize("seed", [3, 11, 42, 77])
def test_whatever_graph_runs_and_wherever_readers_are_cut_they_have_the_databases_events(fleet, dial, stored, seed):
    document, _ = random_graph(seed, lambda sub: fleet.client.graphs.create(sub).id)
    run = fleet.submit(document)
    ended = threading.Event()
    helper = threading.Thread(target=decide, args=(fleet, run, ended))
    helper.start()
    readers = [CutReader(dial, run, Random(seed * 10 + number)) for number in range(3)]
    try:
        for reader in readers:
            reader.start()
        fleet.ended(run, 120)
        for reader in readers:
            reader.join(60)
    finally:
        ended.set()
        helper.join()
    expected = stored(run)
    for reader in readers:
        assert reader.failure is None, reader.failure
        assert reader.ids == expected
    assert sum(reader.cuts for reader in readers) > 0


def test_a_long_run_is_read_in_many_batches_while_it_goes_on_and_after(fleet, dial, stored):
    run = fleet.submit(items(BATCH + 150))
    early = CutReader(dial, run, Random(1))
    early.start()
    fleet.ended(run, 120)
    early.join(60)
    expected = stored(run)
    assert len(expected) > 3 * BATCH
    assert (early.failure, early.ids) == (None, expected)
    late = dial()
    late.subscribe(f"run:{run}")
    assert [event["id"] for event in late.until_over()] == expected
    for place in (0, BATCH - 1, BATCH, len(expected) - 2):
        socket = dial()
        socket.subscribe(f"run:{run}", expected[place])
        assert [event["id"] for event in socket.until_over()] == expected[place + 1 :]


def test_who_has_seen_everything_is_told_that_it_is_over(fleet, dial, stored):
    run = fleet.submit(items(1))
    fleet.ended(run)
    socket = dial()
    socket.subscribe(f"run:{run}", stored(run)[-1])
    assert socket.receive()["type"] == "over"
    for url in (fleet.url, fleet.live_url):
        headers = {**bearer(fleet.key), "Last-Event-ID": stored(run)[-1]}
        assert httpx.get(f"{url}/events?channel=run:{run}", headers=headers).status_code == 204
        assert httpx.get(f"{url}/api/v1/runs/{run}/events", headers=headers).status_code == 204


def test_many_readers_of_one_run_get_the_same(fleet, dial, stored):
    run = fleet.submit(items(30, 0.01))
    sockets = [dial() for _ in range(20)]
    for socket in sockets:
        socket.subscribe(f"run:{run}")
    told = [[event["id"] for event in socket.until_over()] for socket in sockets]
    assert told == [stored(run)] * len(sockets)


def test_one_connection_watches_many_runs(fleet, dial, stored):
    runs = [fleet.submit(items(5, 0.02)) for _ in range(8)]
    socket = dial()
    for run in runs:
        socket.send(type="subscribe", channel=f"run:{run}")
    told: dict[str, list[str]] = {f"run:{run}": [] for run in runs}
    over = set()
    while len(over) < len(runs):
        message = socket.receive(40)
        if message["type"] == "event":
            told[message["channel"]].append(message["id"])
        elif message["type"] == "over":
            over.add(message["channel"])
    assert told == {f"run:{run}": stored(run) for run in runs}


def test_all_who_watch_a_graph_hear_of_its_run_soon_however_many_they_are(fleet, dial):
    graph_id = fleet.client.graphs.create(items(3)).id
    sockets = [dial() for _ in range(150)]
    for socket in sockets:
        socket.subscribe(f"graph:{graph_id}")
    run = str(fleet.client.submit(graph_id).id)
    deadline = time.monotonic() + 15
    for socket in sockets:
        while (event := socket.receive(max(deadline - time.monotonic(), 0.1))["data"])["status"] != "COMPLETED" or (
            event["kind"] != "run"
        ):
            assert event["run_id"] == run


@pytest.mark.parametrize("odd", ["\ud800", "\0", "\udfff\\u0000"])
def test_a_value_that_has_no_utf_8_form_is_told_like_any_other_and_holds_up_nothing(fleet, dial, odd):
    """Whoever may send a webhook can bring one in."""
    nodes = [node("in", "StoreValue", input={"a": [odd]}), node("out", "AgentOutput", name="n")]
    everything = dial()
    everything.subscribe("runs")
    runs = [fleet.submit(graph(nodes, [link("in:output", "out:value")])) for _ in range(2)]
    one = dial()
    one.subscribe(f"run:{runs[0]}")
    (told,) = (event["data"] for event in one.until_over() if event["data"]["is_output"] and event["data"]["outputs"])
    assert told["outputs"][0]["value"] == {"a": [odd]}
    ended = set()
    while len(ended) < len(runs):
        event = everything.receive(40)["data"]
        if event["kind"] == "run" and event["status"] == "COMPLETED":
            ended.add(event["run_id"])
    assert ended == set(map(str, runs))


def in_all(rows, owner: UUID, after: tuple[int, int]) -> list[str]:
    """What the database says happened in all runs of an owner."""
    statement = (
        "SELECT e.transaction, e.id FROM events e JOIN runs r ON r.id = e.run_id WHERE r.owner_id = :owner "
        "AND (e.transaction, e.id) > (:transaction, :id) ORDER BY e.transaction, e.id"
    )
    found = rows(statement, owner=owner, transaction=after[0], id=after[1])
    return [f"{transaction}-{number}" for transaction, number in found]


@pytest.mark.parametrize("which", ["runs", "graph"])
def test_all_runs_are_told_in_the_databases_order_over_cuts(fleet, dial, rows, which):
    owner = fleet.client.me().user.id
    pushed = fleet.client.graphs.create(items(12, 0.01))
    channel = "runs" if which == "runs" else f"graph:{pushed.id}"
    socket = dial()
    after = socket.subscribe(channel)["data"]["after"]
    start = tuple(map(int, after.split("-")[:2]))
    runs = [fleet.client.submit(pushed.id).id for _ in range(4)]
    told, open_runs, rng = [], {str(run) for run in runs}, Random(5)
    for number in itertools.count():
        message = socket.receive(60)
        assert (message["type"], message["channel"]) == ("event", channel)
        told.append(message["data"]["id"])
        after = message["id"]
        assert message["data"]["graph_id"] == str(pushed.id)
        if message["data"]["kind"] == "run" and message["data"]["status"] == "COMPLETED":
            open_runs.discard(message["data"]["run_id"])
        if not open_runs:
            break
        if rng.random() < 0.1:
            socket.connection.socket.close()
            socket = dial()
            if number % 2:  # an id without its time will do as well
                after = after.rpartition("-")[0]
            socket.subscribe(channel, after)
    assert told == in_all(rows, owner, start)


def test_what_happened_in_many_runs_while_nobody_was_there_is_told(fleet, dial, rows):
    owner = fleet.client.me().user.id
    after = dial().subscribe("runs")["data"]["after"]
    start = tuple(map(int, after.split("-")[:2]))
    runs = [fleet.submit(items(3)) for _ in range(3)]
    for run in runs:
        fleet.ended(run)
    expected = in_all(rows, owner, start)
    socket = dial()
    socket.subscribe("runs", after)
    assert [socket.receive()["data"]["id"] for _ in expected] == expected
    socket = dial()
    socket.send(type="subscribe", channel="runs", after="")  # as one that has seen nothing: from now on
    begun = socket.receive()["data"]["after"]
    assert tuple(map(int, begun.split("-")[:2])) >= max(tuple(map(int, one.split("-"))) for one in expected)


def test_events_of_all_kinds_come_at_once(fleet, dial):
    """Start, pause, resume, wait, signal, cancel: each is seen long before anybody looks now and then."""
    document = graph(
        [node("wait", "WaitForEvent", name="go"), node("out", "AgentOutput", name="n")],
        [link("wait:payload", "out:value")],
    )
    socket = dial()
    socket.subscribe("runs")
    run = fleet.submit(document)

    def comes(kind: str, status: str) -> None:
        while True:
            data = socket.receive(10)["data"]
            if (data["run_id"], data["kind"], data["status"]) == (str(run), kind, status):
                return

    comes("settled", "WAITING")
    fleet.client.pause(run)
    comes("run", "WAITING")
    fleet.client.resume(run)
    fleet.client.signal(run, "go", 1)
    comes("woken", "QUEUED")
    comes("run", "COMPLETED")
    second = fleet.submit(items(3, 30))
    run = second
    comes("claimed", "RUNNING")
    fleet.client.cancel(second)
    comes("run", "CANCELLED")


def test_a_stream_of_server_sent_events_carries_the_same_messages(fleet, stored):
    run = fleet.submit(items(4))
    for url in (fleet.url, fleet.live_url):
        with httpx.stream("GET", f"{url}/events?channel=run:{run}", headers=bearer(fleet.key), timeout=30) as reply:
            assert reply.status_code == 200
            messages = [(one.id, json.loads(one.data)) for one in EventSource(reply).iter_sse() if one.data]
        assert messages[0][1]["type"] == "subscribed"
        assert messages[-1][1]["type"] == "over"
        assert [id_ for id_, message in messages if message["type"] == "event"] == stored(run)
        assert all(id_ == message["id"] for id_, message in messages if message["type"] == "event")


def test_the_apis_own_address_streams_through_the_live_process(fleet, stored):
    run = fleet.submit(items(3))
    assert [event.id for event in fleet.client.follow(run)] == stored(run)
    with httpx.stream("GET", f"{fleet.url}/api/v1/runs/{run}/events", headers=bearer(fleet.key)) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert "x-request-id" not in reply.headers  # it is not the API that answers
        text = reply.read().decode()
    assert [line[4:] for line in text.splitlines() if line.startswith("id: ")] == stored(run)


def test_there_is_no_limit_of_eight_streams_any_more(fleet):
    run = fleet.submit(items(2, 3))
    streams = []
    with httpx.Client(headers=bearer(fleet.key), timeout=30, limits=httpx.Limits(max_connections=100)) as client:
        for _ in range(40):
            request = client.build_request("GET", f"{fleet.url}/api/v1/runs/{run}/events")
            streams.append(client.send(request, stream=True))
        assert [stream.status_code for stream in streams] == [200] * 40
        assert client.get(f"{fleet.url}/api/v1/runs/{run}").status_code == 200
        for stream in streams:
            assert "COMPLETED" in stream.read().decode()


def test_the_typed_client_watches_several_runs_to_their_ends(fleet, stored):
    runs = [fleet.submit(items(3, 0.01)) for _ in range(3)]
    told: dict[str, list[str]] = {}
    over = []
    for update in fleet.client.watch(*(f"run:{run}" for run in runs)):
        if update.is_over:
            over.append(update.channel)
        else:
            told.setdefault(update.channel, []).append(update.id)
    assert told == {f"run:{run}": stored(run) for run in runs}
    assert sorted(over) == sorted(f"run:{run}" for run in runs)


def test_following_a_run_leaves_nothing_behind(fleet, dial):
    """Whoever is gone is forgotten: their places come back."""
    run = fleet.submit(items(2))
    fleet.ended(run)
    for _ in range(30):
        socket = dial()
        socket.subscribe(f"run:{run}")
        socket.until_over()
        socket.connection.close()
    descriptors = f"/proc/{fleet.live_pid}/fd"
    until(lambda: len(os.listdir(descriptors)) < 60, "connections are closed")
