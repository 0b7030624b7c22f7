"""Real workers spend one balance at once while they and the servers die: nothing is paid twice, or for nothing."""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest
import redis
from fleet import Fleet, graph, link, node, noted, until
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from agentflow.client.http import ApiError
from agentflow.credits import store
from agentflow.embedded.stack import Stack
from agentflow.storage.connect import engine
from agentflow.storage.migrate import upgrade

pytestmark = pytest.mark.scenario

PRICE = 3
"""Of the block TestPaid."""


@pytest.fixture
def fleet(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Fleet]:
    """An API server and two workers with two children each, where owners pay."""
    made = Fleet(database_url, broker_url, tmp_path, children=2, environment={"AGENTFLOW_CREDITS": "true"})
    try:
        made.start_web()
        made.ensure_workers(2)
        yield made
    finally:
        made.stop()


def test_as_many_runs_complete_as_the_balance_pays_for_though_a_worker_dies(fleet: Fleet, log: Path) -> None:
    owner = fleet.client.me().user.id
    fleet.client.credits.grant(owner, 100, "a hundred")
    document = graph([node("paid", "TestPaid", value=1, seconds=0.05, log=str(log))], [])
    runs, refused = [], []
    for number in range(100):
        try:
            runs.append(fleet.submit(document))
        except ApiError as error:
            refused.append(error.status)
        if number == 20:
            until(lambda: noted(log), "some run is under way")
            fleet.kill(next(iter(fleet.workers)))
    assert set(refused) <= {402}
    ended = [fleet.ended(run_id, 60) for run_id in runs]
    outcomes = Counter((run.status, run.reason) for run in ended)
    completed = 100 // PRICE
    refusals = 100 - len(refused) - completed
    assert outcomes == Counter({("COMPLETED", None): completed, ("FAILED", "insufficient_balance"): refusals})
    assert all("costs 3 credits, and the balance is" in (run.error or "") for run in ended if run.reason)
    used = [one for one in fleet.client.credits.transactions() if one.type == "USAGE"]
    assert Counter(one.run_id for one in used) == {run.id: 1 for run in ended if run.status == "COMPLETED"}
    found = fleet.client.credits.get()
    assert (found.balance, found.held, found.spent_today) == (100 % PRICE, 0, 99)
    engine = create_engine(fleet.database_url)
    with Session(engine) as session:
        assert store.disagreements(session, 10) == []
    engine.dispose()


def test_a_retry_a_fork_a_cached_result_and_sub_graphs_are_paid_as_the_docs_say(fleet: Fleet, log: Path) -> None:
    client = fleet.client
    owner = client.me().user.id
    client.credits.grant(owner, 8, "for two and a half")

    def paid(run_id: UUID) -> list[tuple[str | None, int]]:
        found = [one for one in client.credits.transactions() if one.run_id == run_id]
        return sorted((one.node_id, -one.amount) for one in found)

    # Two steps are paid, and the third is not; a retry after a top-up pays for that one alone.
    names = ["a", "b", "c"]
    chain = graph(
        [node(name, "TestPaid", value=1) for name in names], [link("a:value", "b:value"), link("b:value", "c:value")]
    )
    first = fleet.run(chain)
    assert (first.status, first.reason) == ("FAILED", "insufficient_balance")
    assert paid(first.id) == [("a", PRICE), ("b", PRICE)]
    client.credits.grant(owner, 100, "more")
    client.retry(first.id)
    assert fleet.ended(first.id).status == "COMPLETED"
    assert paid(first.id) == [(name, PRICE) for name in names]

    # A fork pays for what runs anew.
    fork = fleet.ended(client.fork(first.id, "b").id)
    assert fork.status == "COMPLETED"
    assert paid(fork.id) == [("b", PRICE), ("c", PRICE)]

    # What is cached is paid once.
    cached = graph([node("a", "TestPaid", {"cache": {"ttl": 3600}}, value=2)], [])
    assert [len(paid(fleet.run(cached).id)) for _ in range(3)] == [1, 0, 0]

    # What waits pays for what it reported before, and for its end.
    waits = fleet.run(graph([node("a", "TestPaidWait", value=3)], []))
    assert paid(waits.id) == [("a", 1), ("a", 2)]

    # A child run pays, and its tree is stopped by the budget of the run above.
    child = client.graphs.create(chain).id
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    given = {"graph_id": str(child), "graph_version": 1, "input_schema": schema, "output_schema": schema}
    above = fleet.run(graph([node("sub", "AgentExecutor", **given)], []))
    (inner,) = client.runs(parent=above.id)
    assert (above.status, above.stats["cost"]) == ("COMPLETED", 3 * PRICE)
    assert (paid(above.id), paid(inner.id)) == ([], [(name, PRICE) for name in names])
    capped = fleet.run(graph([node("sub", "AgentExecutor", **given)], [], budget=4))
    assert (capped.status, capped.reason) == ("FAILED", "insufficient_balance")
    left = 108 - PRICE * (3 + 2 + 1 + 3) - 3 - capped.stats["cost"]
    assert (client.credits.get().balance, client.credits.get().held) == (left, 0)


SECONDS = float(os.environ.get("AGENTFLOW_TEST_CREDITS_SECONDS", "20"))
"""How long workers die."""

SEED = int(os.environ.get("AGENTFLOW_TEST_CREDITS_SEED", "1"))


@pytest.fixture
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A PostgreSQL and a Valkey that the test may stop; what PostgreSQL said was stored is."""
    with Stack(Path(tmp_path_factory.mktemp("own")) / "data") as running:
        upgrade(running.database_url)
        yield running
        engine.cache_clear()


@pytest.fixture
def own_fleet(servers: Stack, tmp_path: Path) -> Iterator[Fleet]:
    """An API server and two workers with two children each, where owners pay."""
    environment = {"AGENTFLOW_CREDITS": "true", "AGENTFLOW_CREDITS_LOW": "50"}
    made = Fleet(servers.database_url, servers.broker_url, tmp_path, children=2, environment=environment)
    try:
        made.start_web()
        made.ensure_workers(2)
        yield made
    finally:
        made.stop()


def costly(rng: Random, child: UUID | None) -> dict[str, Any]:
    """A random graph of paid nodes: in a row, for each item, after failures, in a child run, cached, waiting."""
    many = {"retry": {"max_failures": 5, "base": 0.05, "cap": 0.1}, "max_losses": 1000}
    nodes, links, last = [node("n0", "TestPaid", many, value=0, seconds=0.02)], [], "n0:value"
    for number in range(1, rng.randint(1, 5)):
        name = f"n{number}"
        kind = rng.choice(["paid", "each", "fails", "child", "waits", "paid wait", "cached"])
        if kind == "each":
            items = list(range(rng.randint(2, 6)))
            nodes.append(node(f"{name}each", "StepThroughItems", many, items=items))
            nodes.append(node(name, "TestPaid", many, seconds=rng.random() * 0.1))
            links.append(link(f"{name}each:item", f"{name}:value"))
            continue
        if kind == "fails":
            times = rng.choice([1, 2, 1000])
            nodes.append(node(f"{name}fails", "TestFail", many, kind="transient", times=times))
            links.append(link(last, f"{name}fails:value"))
            last = f"{name}fails:value"
        elif kind == "child" and child is not None:
            schema: dict[str, Any] = {"type": "object", "properties": {}}
            given = {"graph_id": str(child), "graph_version": 1, "input_schema": schema, "output_schema": schema}
            nodes.append(node(f"{name}child", "AgentExecutor", many, **given))
            continue
        elif kind == "waits":
            nodes.append(node(f"{name}waits", "CountdownTimer", many, seconds=0.5))
            links.append(link(last, f"{name}waits:input_message"))
            last = f"{name}waits:output_message"
        if kind == "paid wait":
            nodes.append(node(name, "TestPaidWait", many, seconds=rng.random()))
        else:
            cached = {"cache": {"ttl": 3600}} if kind == "cached" else {}
            nodes.append(node(name, "TestPaid", many | cached, seconds=rng.choice([0.0, 0.05])))
        links.append(link(last, f"{name}:value"))
        last = f"{name}:value"
    more = {"budget": rng.randint(3, 12)} if rng.random() < 0.2 else {}
    return graph(nodes, links, **more)


@pytest.mark.timeout(300, method="thread")
def test_ledger_and_node_executions_agree_though_workers_and_servers_die(servers: Stack, own_fleet: Fleet) -> None:
    fleet, rng = own_fleet, Random(SEED)
    assert servers.postgres is not None
    owner = fleet.client.me().user.id
    granted = 400
    fleet.client.credits.grant(owner, granted, "to spend")
    child = fleet.client.graphs.create(costly(rng, None)).id
    runs: list[UUID] = []
    begun = time.monotonic()
    has_restarted = has_flushed = False
    while (passed := time.monotonic() - begun) < SECONDS:
        with contextlib.suppress(ApiError):  # 402, 409, or PostgreSQL is away
            act = rng.random()
            if act < 0.6 or not runs:
                runs.append(fleet.submit(costly(rng, child)))
            elif act < 0.7:
                fleet.client.cancel(rng.choice(runs))
            elif act < 0.8:
                fleet.client.retry(rng.choice(runs))
            elif act < 0.9:
                runs.append(fleet.client.fork(rng.choice(runs), "n0").id)
            else:
                fleet.client.credits.grant(owner, 40, "more")
                granted += 40
        if rng.random() < 0.05:
            fleet.kill(rng.choice(list(fleet.workers)))
            fleet.ensure_workers(2)
        if passed > SECONDS / 3 and not has_flushed:
            has_flushed = True
            with redis.Redis.from_url(fleet.broker_url) as client:
                client.flushall()
        if passed > SECONDS / 2 and not has_restarted:
            has_restarted = True
            servers.postgres.stop()
            servers.postgres.start()
        time.sleep(0.05)
    assert has_flushed
    assert has_restarted
    ended = [fleet.ended(run_id, 120) for run_id in runs]
    assert {"COMPLETED", "FAILED"} <= {str(run.status) for run in ended}
    until(lambda: fleet.client.credits.get().held == 0, "nothing is held", 60)
    found = fleet.client.credits.get()
    with Session(made := create_engine(fleet.database_url)) as session:
        assert store.disagreements(session, 10) == []
        used, least = session.execute(
            text("SELECT -sum(amount) FILTER (WHERE type = 'USAGE'), min(balance) FROM credit_transactions")
        ).one()
        charged, cost = session.execute(
            text("SELECT sum((stats ->> 'charged')::numeric), sum((stats ->> 'cost')::numeric) FROM node_executions")
        ).one()
    made.dispose()
    assert used == charged == granted - found.balance
    assert cost >= charged
    assert least >= 0
