"""The keys that encrypt credentials are replaced under load, as the guide says: no run is lost, and none fails."""

import base64
import os
import subprocess
import sysconfig
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pytest
from fleet import Fleet, graph, node, until
from sqlalchemy import create_engine, text

from agentflow.client.http import ApiError, Unreachable

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(300)]

OLD, NEW = (base64.b64encode(letter * 32).decode() for letter in (b"o", b"n"))
VARIABLE = "AGENTFLOW_CREDENTIAL_KEYS"


@pytest.fixture
def fleet(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(database_url, broker_url, tmp_path, children=2, environment={VARIABLE: OLD})
    try:
        made.start_web()
        made.ensure_workers(2)
        yield made
    finally:
        made.stop()


def restart(fleet: Fleet, *ring: str) -> None:
    """One process after the other, so that some work goes on all the time."""
    fleet._environment[VARIABLE] = ",".join(ring)
    for name in list(fleet.workers):
        fleet.start_worker()
        process = fleet.workers.pop(name)
        process.terminate()
        process.wait(30)
    fleet.kill_web()
    fleet.start_web()


def test_the_keys_are_replaced_under_load(fleet: Fleet) -> None:
    secret = {"type": "api_key", "api_key": "sk-rotated"}
    made = [fleet.client.credentials.create("leaky", secret) for _ in range(150)]
    runs: list[UUID] = []
    enough = threading.Event()

    def load() -> None:
        while not enough.wait(0.2):
            literal = {"credentials": {"id": str(made[len(runs) % len(made)].id)}}
            nodes = [node(way, "TestLeak", asks="leaky", way=way, **literal) for way in ("yields", "streams", "waits")]
            with suppress(ApiError, Unreachable):  # the API starts again: the same once more
                runs.append(fleet.submit(graph(nodes, []), idempotency_key=f"run {len(runs)}"))

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for ring in ((OLD, NEW), (NEW, OLD)):
            restart(fleet, *ring)
            before = len(runs)
            until(lambda before=before: len(runs) > before + 3, "runs are submitted")
        command = [Path(sysconfig.get_path("scripts")) / "agentflow", "credentials", "rotate"]
        ours = {**os.environ, "AGENTFLOW_DATABASE_URL": fleet.database_url, VARIABLE: f"{NEW},{OLD}"}
        rotated = subprocess.run(command, env=ours, capture_output=True, text=True)
        assert rotated.returncode == 0, rotated.stdout + rotated.stderr
        restart(fleet, NEW)
        before = len(runs)
        until(lambda: len(runs) > before + 3, "runs are submitted")
    finally:
        enough.set()
        thread.join(60)
    assert len(runs) > 15
    assert Counter(fleet.ended(run, 60).status.value for run in runs) == {"COMPLETED": len(runs)}
    engine = create_engine(fleet.database_url)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(DISTINCT key_id) FROM credentials")).scalar() == 1
    engine.dispose()
