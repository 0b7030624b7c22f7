"""Real workers fire schedules while they are killed: each due time runs once, and none is lost.

`AGENTFLOW_TEST_SCHEDULES` and `AGENTFLOW_TEST_SECONDS` make it as large as a host can carry; the default is what fits
into the tests.
"""

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet, graph, node, until
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

pytestmark = pytest.mark.scenario

SCHEDULES = int(os.environ.get("AGENTFLOW_TEST_SCHEDULES", "40"))
SECONDS = float(os.environ.get("AGENTFLOW_TEST_SECONDS", "5"))
EVERY = float(os.environ.get("AGENTFLOW_TEST_EVERY", "4"))
"""Seconds between two times of a schedule."""

WORKERS = 3
LEAST_KILLED = 3


@pytest.fixture
def fleet(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Fleet]:
    environment = {"AGENTFLOW_MAX_SCHEDULES": "100000", "AGENTFLOW_MAX_ACTIVE_RUNS": "1000"}
    made = Fleet(database_url, broker_url, tmp_path, environment=environment)
    try:
        made.start_web()
        made.ensure_workers(WORKERS)
        yield made
    finally:
        made.stop()


@pytest.fixture
def ask(fleet: Fleet) -> Iterator[Any]:
    """`ask(statement, name=value)`: rows of the database."""
    made = create_engine(fleet.database_url.replace("postgresql://", "postgresql+psycopg2://"))

    def rows(statement: str, **values: Any) -> list[Any]:
        with Session(made) as session, session.begin():
            return [tuple(row) for row in session.execute(text(statement), values)]

    yield rows
    made.dispose()


def test_each_due_time_is_run_once_though_a_worker_is_killed_each_second(fleet: Fleet, ask: Any) -> None:
    graph_id = fleet.client.graphs.create(graph([node("n", "StoreValue", input=1)], [])).id
    for number in range(SCHEDULES):
        fleet.client.schedules.create(
            f"s{number}", graph_id, every=EVERY, overlap="allow", catch_up="all", start_at=None
        )
    over, alive = threading.Event(), deque(fleet.workers)

    def replace(name: str) -> None:
        """Start another worker whenever this one was killed. Only one that is ready is: else none ever were."""
        while not over.wait(0.05):
            if name not in fleet.workers:
                name = fleet.start_worker()
                alive.append(name)

    replacing = [threading.Thread(target=replace, args=(name,)) for name in alive]
    for thread in replacing:
        thread.start()
    began, killed = time.monotonic(), 0
    while time.monotonic() < began + SECONDS or (killed < LEAST_KILLED and time.monotonic() < began + 10 * SECONDS):
        time.sleep(1)
        if alive:
            fleet.kill(alive.popleft())
            killed += 1
    over.set()
    for thread in replacing:
        thread.join()
    fleet.ensure_workers(WORKERS)
    print(f"{killed} workers were killed in {SECONDS:.0f} s")
    late = "SELECT 1 FROM schedules WHERE fire_at < now() - interval '1 second'"
    until(lambda: ask(late) == [], "all is fired", 120 + SECONDS)
    ask("UPDATE schedules SET paused_at = now(), pause_reason = 'over' RETURNING 1")
    until(lambda: ask("SELECT 1 FROM runs WHERE ended_at IS NULL") == [], "all runs have ended", 120)

    assert killed >= LEAST_KILLED
    found = ask("SELECT schedule_id, due_at, state, run_id FROM occurrences ORDER BY schedule_id, due_at")
    assert Counter(state for _, _, state, _ in found) == {"run": len(found)}
    times: dict[Any, list[datetime]] = {}
    for schedule_id, due_at, _, _ in found:
        times.setdefault(schedule_id, []).append(due_at)
    starts = dict(ask("SELECT id, start_at FROM schedules"))
    dues = dict(ask("SELECT id, due_at FROM schedules"))
    assert times.keys() == starts.keys()
    for schedule_id, ran in times.items():
        expected = [starts[schedule_id] + (count + 1) * timedelta(seconds=EVERY) for count in range(len(ran))]
        assert ran == expected, "none twice, and none missing"
        assert dues[schedule_id] == ran[-1] + timedelta(seconds=EVERY), "and none at the end"
    runs = ask("SELECT id, schedule_id, status FROM runs")
    assert Counter(status for _, _, status in runs) == {"COMPLETED": len(found)}
    assert {(run_id, schedule_id) for run_id, schedule_id, _ in runs} == {
        (run_id, schedule_id) for schedule_id, _, _, run_id in found
    }


def test_a_beat_that_somebody_runs_does_no_harm(fleet: Fleet, ask: Any) -> None:
    graph_id = fleet.client.graphs.create(graph([node("n", "StoreValue", input=1)], [])).id
    with fleet.beat() as log:
        fleet.client.schedules.create("each second", graph_id, every=1, overlap="allow", catch_up="all")
        until(lambda: ask("SELECT count(*) FROM occurrences")[0][0] >= 4, "it was fired four times")
        assert b"Sending due task" not in log.read_bytes()
    ask("UPDATE schedules SET paused_at = now(), pause_reason = 'over' RETURNING 1")
    until(lambda: ask("SELECT 1 FROM runs WHERE ended_at IS NULL") == [], "all runs have ended")
    dues = [due for (due,) in ask("SELECT due_at FROM occurrences ORDER BY due_at")]
    assert dues == [dues[0] + count * timedelta(seconds=1) for count in range(len(dues))], (
        "none twice, and none missing"
    )
    assert ask("SELECT count(*) FROM runs WHERE status = 'COMPLETED'") == [(len(dues),)]


def test_thousands_of_schedules_that_are_due_at_once_are_fired_within_a_minute(fleet: Fleet, ask: Any) -> None:
    """As many as 10 times the others: 400 by default."""
    count = SCHEDULES * 10
    graph_id = fleet.client.graphs.create(graph([node("n", "StoreValue", input=1)], [])).id
    model = fleet.client.schedules.create("model", graph_id, every=86_400)
    names = ask("SELECT column_name FROM information_schema.columns WHERE table_name = 'schedules'")
    columns = ", ".join(name for (name,) in names if name not in ("id", "name", "due_at", "fire_at"))
    ask(
        f"INSERT INTO schedules (id, name, due_at, fire_at, {columns}) "
        f"SELECT gen_random_uuid(), 's' || n, now() + interval '1 second', now() + interval '1 second', {columns} "
        "FROM schedules, generate_series(1, :count) n WHERE id = :model RETURNING 1",
        count=count, model=model.id,
    )  # fmt: skip
    due = ask("SELECT min(due_at) FROM schedules")[0][0]
    until(lambda: ask("SELECT count(*) FROM occurrences")[0][0] == count, "all are fired", 240)
    (last,) = ask("SELECT max(fired_at) FROM occurrences WHERE state = 'run'")[0]
    print(f"{count} schedules were fired within {(last - due).total_seconds():.1f} s by {WORKERS} workers")
    assert ask("SELECT state, count(*) FROM occurrences GROUP BY state") == [("run", count)]
