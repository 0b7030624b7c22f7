"""Whatever dies or is emptied meanwhile, a subscriber ends up with the events of the database."""

import os
import signal
import threading
import time
from contextlib import suppress
from random import Random
from typing import Any

import psycopg
import pytest
import redis
from fleet import graph, link, node, until

from agentflow.client import Client
from agentflow.dispatch.watching import WAKE_UPS
from agentflow.live.hub import LOOK_SECONDS

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(240)]


def steps(count: int, seconds: float) -> dict[str, Any]:
    return graph(
        [
            node("each", "StepThroughItems", items=list(range(count))),
            node("work", "TestSleep", seconds=seconds),
            node("out", "AgentOutput", name="n"),
        ],
        [link("each:item", "work:value"), link("work:value", "out:value")],
    )


class Follower(threading.Thread):
    """Follows a run by the typed client, over whatever happens."""

    def __init__(self, client, run) -> None:
        super().__init__(daemon=True)
        self._client, self._run_id = client, run
        self.ids: list[str] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            for update in self._client.watch(f"run:{self._run_id}"):
                if not update.is_over:
                    self.ids.append(update.id)
        except BaseException as error:
            self.failure = error


@pytest.fixture
def patient(fleet):
    """A client that does not give up for a minute."""
    with Client(fleet.url, fleet.key, attempts=40) as client:
        yield client


def check(follower: Follower, stored, run, seconds: float = 60) -> None:
    follower.join(seconds)
    assert follower.failure is None, follower.failure
    assert not follower.is_alive()
    assert follower.ids == stored(run)


def test_emptying_redis_loses_nothing(fleet, patient, stored):
    run = fleet.submit(steps(40, 0.05))
    follower = Follower(patient, run)
    follower.start()
    with redis.Redis.from_url(fleet.broker_url) as broker:
        for place in (5, 40, 80):
            until(lambda place=place: len(follower.ids) > place, "events come")
            broker.flushall()
    fleet.ended(run, 120)
    check(follower, stored, run)


def test_without_redis_the_database_is_asked(servers, fleet, patient, dial, stored):
    waits = graph([node("wait", "WaitForEvent", name="go")], [])
    run = fleet.submit(waits)
    socket = dial()
    socket.subscribe(f"run:{run}")
    until(lambda: socket.receive()["data"]["status"] == "WAITING", "it waits")
    servers.valkey.stop()
    try:
        began = time.monotonic()
        fleet.client.cancel(run)
        while (message := socket.receive(30))["type"] == "event":
            if message["data"]["kind"] == "stopping":
                break
        assert time.monotonic() - began < 15
    finally:
        servers.valkey.start()
    fleet.ended(run, 90)
    while (message := socket.receive(60))["type"] != "over":
        last = message["id"]
    assert last == stored(run)[-1]


def test_a_killed_live_process_is_missed_by_nobody(fleet, patient, stored):
    run = fleet.submit(steps(60, 0.05))
    followers = [Follower(patient, run) for _ in range(3)]
    for follower in followers:
        follower.start()
    for place in (10, 60):
        until(lambda place=place: all(len(one.ids) > place for one in followers), "events come")
        fleet.kill_live()
        fleet.start_live()
    fleet.ended(run, 120)
    for follower in followers:
        check(follower, stored, run)


def test_a_live_process_that_is_told_to_stop_says_so(fleet, dial):
    waits = graph([node("wait", "WaitForEvent", name="go")], [])
    run = fleet.submit(waits)
    socket = dial()
    socket.subscribe(f"run:{run}")
    os.kill(fleet.live_pid, signal.SIGTERM)
    assert socket.closed_with() == 1012
    until(lambda: fleet._live.poll() is not None, "it has ended")
    assert fleet._live.returncode in (0, -signal.SIGTERM)
    fleet.start_live()
    fleet.client.cancel(run)


def test_postgresql_may_restart(servers, fleet, patient, stored):
    run = fleet.submit(steps(60, 0.05))
    follower = Follower(patient, run)
    follower.start()
    until(lambda: len(follower.ids) > 20, "events come")
    servers.postgres.stop()
    servers.postgres.start()
    fleet.ended(run, 120)
    check(follower, stored, run)


def test_connections_that_are_cut_in_postgresql_lose_nothing(fleet, patient, stored, rows):
    run = fleet.submit(steps(60, 0.03))
    follower = Follower(patient, run)
    follower.start()
    rng = Random(1)
    ended = threading.Event()

    def cut() -> None:
        while not ended.wait(rng.random() * 0.3):
            seen, latest = len(follower.ids), time.monotonic() + 5
            with suppress(psycopg.Error), psycopg.connect(fleet.database_url, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE pid <> pg_backend_pid() AND application_name = 'agentflow' AND usename = current_user"
                )
            # On a busy machine all need longer to connect again: they are not cut before something came.
            while len(follower.ids) == seen and time.monotonic() < latest and not ended.wait(0.02):
                pass

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        until(lambda: follower.failure or len(follower.ids) > 100, "events come", 90)
    finally:
        ended.set()
        cutter.join()
    fleet.ended(run, 120)
    check(follower, stored, run)


def test_a_lost_wake_up_costs_a_moment_only(fleet, dial, rows):
    """Somebody writes an event and tells nobody."""
    waits = graph([node("wait", "WaitForEvent", name="go")], [])
    run = fleet.submit(waits)
    socket = dial()
    socket.subscribe(f"run:{run}")
    while (data := socket.receive()["data"])["kind"] != "run" or data["status"] != "WAITING":
        pass
    rows("INSERT INTO events (run_id, kind, status) VALUES (:run, 'run', 'WAITING') RETURNING 1", run=run)
    began = time.monotonic()
    assert socket.receive(20)["data"]["status"] == "WAITING"
    assert time.monotonic() - began < LOOK_SECONDS + 10
    fleet.client.cancel(run)


def test_workers_wake_for_what_is_watched_and_for_nothing_else(fleet, dial):
    with redis.Redis.from_url(fleet.broker_url) as broker, broker.pubsub() as heard:
        heard.subscribe(WAKE_UPS)
        watched = fleet.submit(steps(5, 0.3))
        socket = dial()
        socket.subscribe(f"run:{watched}")
        unwatched = fleet.submit(steps(5, 0.05))
        socket.until_over()
        fleet.ended(unwatched)
        last = fleet.submit(steps(0, 0))
        woken: list[str] = []
        while not woken or woken[-1] != str(last):  # what the API says: it always does, of each once
            message = heard.get_message(timeout=20)
            if message and message["type"] == "message":
                woken.append(message["data"].decode().split()[0])
    assert woken.count(str(watched)) > 1
    assert woken.count(str(unwatched)) == 1
