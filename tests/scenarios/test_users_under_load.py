"""A user is suspended, resumed and deleted amid their work while a worker dies; and several web processes agree."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import redis
from fleet import Fleet, graph, link, node, noted, until

from agentflow.client.client import Client
from agentflow.embedded.private import free_port

pytestmark = pytest.mark.scenario

STEPS = 40
PRICE = 3
"""Of the block TestPaid."""

RATE = 20
"""Requests a second of a key."""


@pytest.fixture
def fleet(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Fleet]:
    """An API server and two workers with two children each, where owners pay."""
    environment = {"AGENTFLOW_CREDITS": "true", "AGENTFLOW_CREDENTIAL_KEYS": "b" * 42 + "A="}
    made = Fleet(database_url, broker_url, tmp_path, children=2, environment=environment)
    try:
        made.start_web()
        made.ensure_workers(2)
        yield made
    finally:
        made.stop()


@pytest.fixture
def member(fleet: Fleet) -> Iterator[Callable[[str], tuple[UUID, Client]]]:
    """`member(name)`: a user with a key, credits, a credential, a graph and a preset."""
    clients = []

    def make(name: str) -> tuple[UUID, Client]:
        user = fleet.client.users.create(name, role="member")
        client = Client(fleet.url, fleet.client.keys.create("key", user_id=user.id).key)
        clients.append(client)
        fleet.client.credits.grant(user.id, 10_000, "for the runs")
        client.credentials.create("openai", {"type": "api_key", "api_key": "k" * 20})
        stored = client.graphs.create(graph([node("keep", "StoreValue", input=1)], []))
        client.presets.create(stored.id, "kept")
        return user.id, client

    yield make
    for client in clients:
        client.close()


def steps(log: Path) -> dict[str, Any]:
    return graph(
        [
            node("each", "StepThroughItems", items=list(range(STEPS))),
            node("work", "TestPaid", seconds=0.05, log=str(log)),
        ],
        [link("each:item", "work:value")],
    )


def names(rows: Any, id: UUID, *texts: str) -> dict[str, int]:
    """How many rows of each table show a user's id, or one of these texts."""
    tables = rows("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
    assert len(tables) > 30
    found = {}
    for (table,) in tables:
        shown = [row for (row,) in rows(f'SELECT t::text FROM "{table}" t')]
        found[table] = sum(any(one in row for one in (str(id), *texts)) for row in shown)
    return {table: count for table, count in found.items() if count}


def test_one_who_is_suspended_twice_and_deleted_leaves_numbers_and_no_name_though_a_worker_dies(
    fleet: Fleet, member: Callable[[str], tuple[UUID, Client]], tmp_path: Path, rows: Any
) -> None:
    ann, anns = member("planted-name-ann")
    bob, bobs = member("planted-name-bob")
    log, last_log, bobs_log = tmp_path / "ann", tmp_path / "ann last", tmp_path / "bob"
    run_id = anns.submit_inline(steps(log)).id
    until(lambda: len(noted(log)) >= 4, "it is under way")
    bobs_run = bobs.submit_inline(steps(bobs_log)).id

    def running(owner: UUID) -> int:
        return int(
            rows(
                "SELECT count(*) FROM node_executions e JOIN runs r ON r.id = e.run_id "
                "WHERE r.owner_id = :owner AND e.status = 'RUNNING'",
                owner=owner,
            )[0][0]
        )

    def is_paused() -> bool:
        open_runs = rows("SELECT paused_at IS NOT NULL FROM runs WHERE owner_id = :o AND ended_at IS NULL", o=ann)
        return all(paused for (paused,) in open_runs) and running(ann) == 0

    fleet.client.users.change(ann, suspended=True)
    until(is_paused, "what runs has finished, and nothing new starts")
    begun = len(noted(log))
    assert 4 <= begun < STEPS
    fleet.client.users.change(ann, suspended=False)
    until(lambda: len(noted(log)) > begun + 3, "it goes on")
    fleet.kill(next(iter(fleet.workers)))
    fleet.client.users.change(ann, suspended=True)
    until(is_paused, "what the dead worker had is given back, and nothing new starts")
    fleet.ensure_workers(2)
    begun = len(noted(log))
    fleet.client.users.change(ann, suspended=False)
    until(lambda: anns.get_run(run_id).ended, "it goes on to its end")
    assert anns.get_run(run_id).status == "COMPLETED"
    until(lambda: bobs.get_run(bobs_run).ended, "the other's run ends")
    assert bobs.get_run(bobs_run).status == "COMPLETED"
    for journal, run in ((log, run_id), (bobs_log, bobs_run)):
        again = Counter(index for _, index, _, _ in noted(journal))
        assert len(again) == STEPS
        assert sum(again.values()) <= STEPS + 2, "only what the two children of the dead worker had begun is done again"
        done = rows("SELECT idx, count(*) FROM outputs WHERE run_id = :run AND node = 1 GROUP BY idx", run=run)
        assert sorted(count for _, count in done) == [1] * STEPS
    assert anns.credits.get().balance == bobs.credits.get().balance == 10_000 - STEPS * PRICE

    anns.submit_inline(steps(last_log))
    until(lambda: len(noted(last_log)) >= 4, "another is under way")
    fleet.client.users.change(ann, suspended=True)
    fleet.client.users.delete(ann)
    until(lambda: rows("SELECT 1 FROM runs WHERE owner_id = :ann", ann=ann) == [], "their runs are gone")
    rows("UPDATE users SET deleting_at = now() - interval '2 minutes' WHERE id = :ann RETURNING 1", ann=ann)
    until(lambda: rows("SELECT 1 FROM users WHERE id = :ann", ann=ann) == [], "the user is gone")
    assert len(noted(last_log)) < STEPS
    assert set(names(rows, ann)) == {"audit_entries", "credit_transactions"}
    assert names(rows, UUID(int=1), "planted-name-ann") == {}, "numbers and no names"
    entries = rows("SELECT amount, balance FROM credit_transactions WHERE owner_id = :ann ORDER BY number", ann=ann)
    assert sum(amount for amount, _ in entries) == entries[-1][1]
    assert bobs.get_run(bobs_run).status == "COMPLETED"
    assert {"runs", "users", "graphs", "presets", "credentials", "api_keys", "credit_balances"} <= set(names(rows, bob))


@pytest.fixture
def second(fleet: Fleet) -> Iterator[str]:
    """The address of another web process of the installation."""
    port = free_port()
    process = fleet._start(
        "web2", "gunicorn", "-c", "python:agentflow.api.gunicorn", "--bind", f"127.0.0.1:{port}", "--no-control-socket",
        "agentflow.api.wsgi:app",
    )  # fmt: skip

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    until(answers, "the second web process answers")
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(30)


def listeners(broker: Any) -> int:
    """How many processes hear of changes to keys."""
    return int(sum(count for name, count in broker.pubsub_numsub(*broker.pubsub_channels()) if name.endswith(b"keys")))


class TestSeveralWebProcesses:
    """Two of them, with the same Redis."""

    @pytest.fixture
    def fleet(self, database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Fleet]:
        made = Fleet(database_url, broker_url, tmp_path, environment={"AGENTFLOW_REQUEST_RATE": str(RATE)})
        try:
            made.start_web()
            yield made
        finally:
            made.stop()

    def test_a_key_that_is_revoked_at_one_stops_at_the_other(self, fleet: Fleet, second: str) -> None:
        made = fleet.client.keys.create("short")
        headers = {"Authorization": f"Bearer {made.key}"}
        with httpx.Client(headers=headers) as client:
            asked = [f"{url}/api/v1/me" for url in (fleet.url, second)]
            with redis.Redis.from_url(fleet.broker_url) as broker:
                # Both listen: from then on they cache what they find.
                until(lambda: [client.get(url) for url in asked] and listeners(broker) >= 2, "both listen")
            assert [client.get(url).status_code for url in asked] == [200, 200]
            fleet.client.keys.revoke(made.id)
            for url in asked:
                until(lambda url=url: client.get(url).status_code in (401, 429), "it is refused", 1)
                until(lambda url=url: client.get(url).status_code == 401, "it is refused as revoked", 5)

    def test_both_count_together(self, fleet: Fleet, second: str) -> None:
        key = fleet.client.keys.create("busy").key
        replies = []
        with httpx.Client(headers={"Authorization": f"Bearer {key}"}) as client:
            while not any(one.status_code == 429 for one in replies):
                url = (fleet.url, second)[len(replies) % 2]
                replies.append(client.get(f"{url}/api/v1/me"))
                assert len(replies) < 10 * RATE
        left = [int(one.headers["RateLimit-Remaining"]) for one in replies[:10]]
        assert left == sorted(left, reverse=True)
        assert left[0] - left[-1] >= 8, "each sees what the other counted"
        assert {int(one.headers["RateLimit-Limit"]) for one in replies[:10]} == {2 * RATE}
        assert "Retry-After" in replies[-1].headers
