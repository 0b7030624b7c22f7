"""A worker and the API wait for a PostgreSQL that is starting, say so, and end over what waiting cannot mend."""

import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from addresses import altered
from sqlalchemy import make_url

from agentflow.embedded.private import free_port

SCRIPTS = sysconfig.get_path("scripts")
WORKER = [
    f"{SCRIPTS}/celery",
    "-A",
    "agentflow",
    "worker",
    "-c",
    "1",
    "-l",
    "INFO",
    "--without-gossip",
    "--without-mingle",
]
WEB = [sys.executable, "-m", "gunicorn", "-c", "python:agentflow.api.gunicorn", "--no-control-socket"]


class Door:
    """An address at which there is no PostgreSQL until it is opened: from then on it leads to the real one."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self._real = Path(str(make_url(database_url).query["host"]))
        self._folder = folder
        self.url = altered(database_url, query={**make_url(database_url).query, "host": str(folder)})

    def open(self) -> None:
        for name in self._real.glob(".s.PGSQL.*"):
            (self._folder / name.name).symlink_to(name)


@pytest.fixture
def door(database_url: str) -> Iterator[Door]:
    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short
        yield Door(database_url, Path(folder))


@pytest.fixture
def start(broker_url: str, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`start(command, database_url, **settings)` starts a process of ours; gives it, and what it has said so far."""
    made: list[subprocess.Popen[bytes]] = []

    def run(command: list[str], database: str, **settings: str) -> tuple[subprocess.Popen[bytes], Callable[[], str]]:
        log = tmp_path / f"{len(made)}.log"
        more = ["--bind", f"127.0.0.1:{free_port()}", "agentflow.api.wsgi:app"] if command is WEB else []
        environment = {
            **os.environ,
            "AGENTFLOW_DATABASE_URL": database,
            "AGENTFLOW_BROKER_URL": broker_url,
            **{f"AGENTFLOW_{name.upper()}": value for name, value in settings.items()},
        }
        with log.open("wb") as output:
            made.append(
                subprocess.Popen(
                    [*command, *more],
                    env=environment,
                    stdout=output,
                    stderr=output,
                    cwd=tmp_path,
                    start_new_session=True,
                )
            )
        return made[-1], log.read_text

    yield run
    for process in made:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)


READY = {"worker": "ready.", "web": "Booting worker"}


@pytest.mark.parametrize(("name", "command"), [("worker", WORKER), ("web", WEB)])
def test_it_waits_for_the_database_and_says_so_once(
    name: str, command: list[str], door: Door, start: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    process, said = start(command, door.url)
    eventually(lambda: "waiting for the database" in said())
    assert process.poll() is None
    door.open()
    eventually(lambda: READY[name] in said(), seconds=40)
    assert said().count("waiting for the database") == 1
    assert "Traceback" not in said()
    process.terminate()
    assert process.wait(timeout=30) == 0


@pytest.mark.parametrize("command", [WORKER, WEB], ids=["worker", "web"])
def test_it_waits_no_longer_than_an_operator_allows(command: list[str], door: Door, start: Callable[..., Any]) -> None:
    process, said = start(command, door.url, database_patience="1")
    assert process.wait(timeout=30) == 1
    assert "cannot be reached" in said()
    assert "Traceback" not in said()


@pytest.mark.parametrize("command", [WORKER, WEB], ids=["worker", "web"])
def test_a_wrong_password_ends_it_at_once(command: list[str], database_url: str, start: Callable[..., Any]) -> None:
    process, said = start(command, altered(database_url, password="wrong"))
    assert process.wait(timeout=30) == 1
    assert "does not let us in" in said()
    assert "waiting" not in said()
    assert "Traceback" not in said()


@pytest.mark.parametrize("name", ["", "a b", "agentflow.", "gpu,", "-"])
def test_a_worker_of_a_queue_that_no_graph_can_name_does_not_start(name: str, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "AGENTFLOW_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
        "AGENTFLOW_BROKER_URL": "redis://127.0.0.1:9/0",
    }
    ended = subprocess.run(
        [*WORKER, f"--queues={name}"], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert "this worker does not start: -Q" in ended.stderr
    assert "a lane is named by" in ended.stderr
