"""What one is told, live: each once and in the order of the database, over cuts."""

import time
from collections.abc import Callable
from itertools import islice
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from fleet import Fleet
from live_socket import Socket

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(120)]


@pytest.fixture
def tell(fleet: Fleet) -> Callable[..., None]:
    """`tell(user, cause)`, in a transaction that is committed `held` seconds later."""

    def note(user: UUID, *causes: str, held: float = 0.0) -> None:
        with psycopg.connect(fleet.database_url) as connection:
            for cause in causes:
                statement = "SELECT agentflow_note(%s, 'run_failed', %s, jsonb_build_object('n', %s::text))"
                connection.execute(statement, (user, cause, cause))
            time.sleep(held)

    return note


def test_one_is_told_each_thing_once_in_order_over_cuts(
    fleet: Fleet, dial: Callable[..., Socket], tell: Callable[..., None]
) -> None:
    me = fleet.client.me().user.id
    causes = [f"{uuid4()}" for _ in range(300)]
    socket = dial()
    last: str = socket.subscribe("notifications")["data"]["after"]
    seen: list[str] = []
    given = iter(causes)
    while len(seen) < len(causes):
        batch = list(islice(given, 97))
        tell(me, *batch)
        for _ in batch:
            message: dict[str, Any] = socket.receive()
            assert (message["type"], message["data"]["type"]) == ("notification", "run_failed")
            seen.append(message["data"]["data"]["n"])
            last = message["id"]
        socket.connection.close()
        socket = dial()
        assert socket.subscribe("notifications", last)["data"]["after"] == last
    assert seen == causes


def test_what_was_written_first_and_committed_last_is_not_missed(
    fleet: Fleet, dial: Callable[..., Socket], tell: Callable[..., None]
) -> None:
    me = fleet.client.me().user.id
    socket = dial()
    socket.subscribe("notifications")
    with psycopg.connect(fleet.database_url) as slow:
        slow.execute("SELECT agentflow_note(%s, 'run_failed', %s, '{\"n\": \"slow\"}')", (me, str(uuid4())))
        quick = str(uuid4())
        tell(me, quick)
        time.sleep(1.5)
    assert [socket.receive()["data"]["data"]["n"] for _ in range(2)] == ["slow", quick]


def test_nobody_is_told_what_another_is(fleet: Fleet, dial: Callable[..., Socket], tell: Callable[..., None]) -> None:
    somebody = fleet.client.users.create(f"somebody-{uuid4().hex[:8]}")
    key = fleet.client.keys.create("theirs", user_id=somebody.id)
    mine, theirs = dial(), dial(key.key)
    for socket in (mine, theirs):
        socket.subscribe("notifications")
    told = {"mine": str(uuid4()), "theirs": str(uuid4())}
    tell(somebody.id, told["theirs"])
    tell(fleet.client.me().user.id, told["mine"])
    assert mine.receive()["data"]["data"]["n"] == told["mine"]
    assert theirs.receive()["data"]["data"]["n"] == told["theirs"]
    narrow = fleet.client.keys.create("narrow", user_id=somebody.id, scopes=["runs:read"])
    refused = dial(narrow.key)
    refused.send(type="subscribe", channel="notifications")
    assert refused.receive()["data"]["status"] == 403
    for wrong in ("soon", "1-2", f"-{uuid4()}", f"1-{uuid4()}-3"):
        mine.send(type="subscribe", channel="notifications", after=wrong)
        answer = mine.receive()
        assert (answer["type"], answer["data"]["status"]) in (("error", 400), ("error", 409)), answer
