"""While PostgreSQL is away, and when it is back: nothing is lost, no process ends, and the logs are a few lines."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fleet import Fleet, graph, link, node, noted, until

from agentflow.embedded.stack import Stack
from agentflow.storage.connect import engine
from agentflow.storage.migrate import upgrade

pytestmark = pytest.mark.timeout(240, method="thread")


@pytest.fixture
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A PostgreSQL and a Valkey that the test may stop."""
    with Stack(Path(tmp_path_factory.mktemp("own")) / "data", durable=False) as running:
        upgrade(running.database_url)
        yield running
        engine.cache_clear()


@pytest.fixture
def own_fleet(servers: Stack, tmp_path: Path) -> Iterator[Fleet]:
    """An API server and a worker with two children on them."""
    made = Fleet(servers.database_url, servers.broker_url, tmp_path, children=2)
    try:
        made.start_web()
        made.ensure_workers(1)
        yield made
    finally:
        made.stop()


def events(text: str) -> Counter[str]:
    """How often each event of an outage is said."""
    return Counter(re.findall(r"\b\w+_(?:postponed|for_now|not_ready|interrupted|failed|not_asked)\b", text))


def test_while_postgresql_is_away_every_process_says_so_in_a_few_lines_and_goes_on(
    servers: Stack, own_fleet: Fleet, tmp_path: Path, log: Path
) -> None:
    assert servers.postgres is not None
    document = graph(
        [
            node("each", "StepThroughItems", items=list(range(60))),
            node("work", "TestSleep", seconds=0.05, log=str(log)),
        ],
        [link("each:item", "work:value")],
    )
    runs = [own_fleet.submit(document) for _ in range(3)]
    until(lambda: len(noted(log)) > 20, "the runs are under way")
    servers.postgres.stop()

    headers = {"Authorization": f"Bearer {own_fleet.key}"}
    answers: list[Any] = []

    def ask() -> bool:
        answers.append(httpx.get(f"{own_fleet.url}/api/v1/runs", headers=headers, timeout=30).status_code)
        return len(answers) >= 30

    until(ask, "requests are answered")
    assert set(answers) == {503}
    servers.postgres.start()
    for run_id in runs:
        assert own_fleet.ended(run_id, 90).status == "COMPLETED"
    assert all(process.poll() is None for process in own_fleet.workers.values())

    for name in ("web.log", "w1.log"):
        text = (tmp_path / name).read_text(errors="replace")
        assert "Traceback" not in text, text[text.index("Traceback") - 500 :][:3000]
        said = events(text)
        processes = 3  # a worker's main process and its children
        assert said, name
        assert all(times <= 3 * processes for times in said.values()), said
    assert "request_refused_for_now" in (tmp_path / "web.log").read_text()
