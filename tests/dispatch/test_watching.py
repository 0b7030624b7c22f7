"""A worker knows what is watched, at the price of a look; and wakes its watchers without waiting for the broker."""

import json
import os
import socket
import time
from uuid import UUID, uuid4

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from agentflow.dispatch import notices, watching
from agentflow.dispatch.watching import ASKED, WAKE_UPS, WATCHED, Bell, Watched, announcement, slot
from agentflow.settings import settings

ids = st.lists(st.uuids(), max_size=30)


@given(told=st.lists(st.tuples(st.sampled_from(["one", "two"]), ids, st.booleans()), max_size=8), others=ids)
def test_what_any_live_process_said_last_is_known_and_little_else(told, others):
    watched = Watched()
    model: dict[str, set[UUID]] = {}
    for by, some, whole in told:
        watched.heard(announcement(by, map(slot, some), whole=whole))
        model[by] = set(some) | (set() if whole else model.get(by, set()))
    known = set().union(*model.values())
    assert all(watched.has(one) for one in known)
    assert watched.anything == bool(known)
    slots = {slot(one) for one in known}
    assert all(watched.has(one) == (slot(one) in slots) for one in others)
    assert watched.has(*others) == any(slot(one) in slots for one in others)


def test_children_see_what_their_parent_hears_later():
    watched, one = Watched(), uuid4()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = os.fork()
        if child == 0:
            theirs.recv(1)
            os._exit(7 if watched.has(one) else 0)
        watched.heard(announcement("live", [slot(one)], whole=True))
        ours.send(b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_worker_and_its_children_wake_those_who_watch_many_runs_together_now_and_then(monkeypatch):
    watched, one, other = Watched(), uuid4(), uuid4()
    now = time.monotonic()
    monkeypatch.setattr(watching, "monotonic", lambda: now)
    assert (watched.sleeps(one), watched.sleeps(one), watched.sleeps(other)) == (True, False, True)
    now += 2 * watching.AWAKE_SECONDS
    child = os.fork()
    if child == 0:
        os._exit(7 if watched.sleeps(one) and not watched.sleeps(one) else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert (watched.sleeps(one), watched.sleeps(other)) == (False, True)
    same = UUID(int=one.int ^ 1 << 100)  # which is kept at the same place
    assert (watched.sleeps(same), watched.sleeps(one)) == (True, True)


def test_a_live_process_that_says_nothing_any_more_is_forgotten(monkeypatch):
    watched, one, two = Watched(), uuid4(), uuid4()
    now = 1000.0
    monkeypatch.setattr(watching, "monotonic", lambda: now)
    watched.heard(announcement("gone", [slot(one)], whole=True))
    assert watched.has(one)
    now += watching._GOOD_FOR + 1
    assert not watched.has(one)
    assert not watched.anything
    watched.heard(announcement("here", [slot(two)], whole=True))
    assert (watched.has(one), watched.has(two)) == (False, True)


@pytest.fixture
def configured(broker_url, database_url, monkeypatch):
    monkeypatch.setenv("AGENTFLOW_BROKER_URL", broker_url)
    monkeypatch.setenv("AGENTFLOW_DATABASE_URL", database_url)
    settings.cache_clear()
    watching.bell.cache_clear()
    yield broker_url
    settings.cache_clear()
    watching.bell.cache_clear()


def next_message(heard, deadline: float = 20.0) -> str:
    until = time.monotonic() + deadline
    while time.monotonic() < until:
        message = heard.get_message(timeout=1, ignore_subscribe_messages=True)
        if message:
            return message["data"].decode()
    raise AssertionError("nothing was heard")


def test_a_worker_asks_for_what_it_missed_and_keeps_up(configured, eventually):
    watched, one, two = Watched(), uuid4(), uuid4()
    with redis.Redis.from_url(configured) as client, client.pubsub() as heard:
        heard.subscribe(notices.channel_name(ASKED))
        watched.follow()
        assert next_message(heard) == ""
        eventually(lambda: notices.tell(WATCHED, announcement("live", [slot(one)], whole=True)) and watched.has(one))
        notices.tell(WATCHED, announcement("live", [slot(two)], whole=False))
        eventually(lambda: watched.has(two))
        assert watched.has(one)


def test_wake_ups_come_in_order_and_over_a_restart_of_the_connection(configured):
    with redis.Redis.from_url(configured) as client, client.pubsub() as heard:
        heard.subscribe(WAKE_UPS)
        heard.get_message(timeout=5)
        bell = Bell(configured)
        for number in range(300):
            bell.ring(str(number))
        assert [next_message(heard) for _ in range(300)] == [str(number) for number in range(300)]
        for connection in client.client_list():
            if connection["cmd"] == "publish":
                client.client_kill_filter(_id=connection["id"])
        until = time.monotonic() + 20
        while time.monotonic() < until:
            bell.ring("again")  # the first is lost: it may be
            message = heard.get_message(timeout=0.5)
            if message and message["data"] == b"again":
                return
        raise AssertionError("it does not ring any more")


def test_a_broker_that_is_away_costs_next_to_nothing(caplog):
    bell = Bell("redis://127.0.0.1:1/0")
    for _ in range(1000):
        bell.ring("x")
    assert len([record for record in caplog.records if record.message == "wake_up_not_sent"]) <= 1
    Bell("amqp://127.0.0.1:1").ring("x")


@pytest.mark.parametrize("follows", [False, True])
def test_only_who_keeps_up_with_the_watchers_is_choosy(configured, monkeypatch, follows):
    watched, run, owner, graph = Watched(), uuid4(), uuid4(), uuid4()
    watched.follows = follows
    monkeypatch.setattr(watching, "_watched", watched)
    with redis.Redis.from_url(configured) as client, client.pubsub() as heard:
        heard.subscribe(WAKE_UPS)
        heard.get_message(timeout=5)
        watching.wake(run, owner, graph)
        watching.wake(run)
        if not follows:
            assert [next_message(heard), next_message(heard)] == [f"{run} {owner} {graph}", str(run)]
            return
        for number in range(3):
            graph = uuid4()
            watched.heard(announcement("live", [slot((run, owner, graph)[number])], whole=True))
            watching.wake(run, owner, graph)
            assert next_message(heard) == f"{run} {owner} {graph}"
        watching.wake(run)  # whose it is, is not known here: it may be
        assert next_message(heard) == str(run)
        watched.heard(json.dumps({"by": "live", "slots": [], "whole": True}))
        watching.wake(run, owner, graph)
        bell = watching.bell()
        bell.ring("last")
        assert next_message(heard) == "last"


def test_who_watches_many_runs_is_woken_once_in_a_while_and_who_watches_one_each_time(configured, monkeypatch):
    watched, runs, owner, graph, now = Watched(), [uuid4() for _ in range(2)], uuid4(), uuid4(), 1_000.0
    watched.follows = True
    monkeypatch.setattr(watching, "_watched", watched)
    monkeypatch.setattr(watching, "monotonic", lambda: now)
    with redis.Redis.from_url(configured) as client, client.pubsub() as heard:
        heard.subscribe(WAKE_UPS)
        heard.get_message(timeout=5)
        watched.heard(announcement("live", [slot(owner)], whole=True))
        for run in runs:
            watching.wake(run, owner, graph)
        now += watching.AWAKE_SECONDS + 0.001
        watching.wake(runs[1], owner, graph)
        watched.heard(announcement("live", [slot(owner), slot(runs[0])], whole=True))
        for _ in range(2):
            watching.wake(runs[0], owner, graph)
        found = [next_message(heard) for _ in range(4)]
    assert found == [f"{runs[number]} {owner} {graph}" for number in (0, 1, 0, 0)]
