"""A worker and the API wait for a PostgreSQL that is starting, say so, and end over what waiting cannot mend."""

import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from agentflow.embedded.postgres import Postgres
from agentflow.embedded.private import free_port
from agentflow.errors import Refused, Unavailable, WrongSchema
from agentflow.storage import migrate, starting

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


def altered(url: str, **parts: Any) -> str:
    """`url` with other parts: username, password, database, query."""
    return make_url(url).set(**parts).render_as_string(hide_password=False)


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


@pytest.mark.parametrize("wrong", [{"password": "wrong"}, {"username": "nobody"}, {"database": "nowhere"}])
def test_what_waiting_cannot_mend_is_told_from_what_it_can(wrong: dict[str, str], database_url: str) -> None:
    said: list[str] = []
    with pytest.raises(Refused):
        starting.await_schema(altered(database_url, **wrong), None, said.append)
    assert said == []


def test_an_empty_database_ends_the_wait(empty_database_url: str) -> None:
    with pytest.raises(WrongSchema):
        starting.await_schema(empty_database_url, None, lambda line: None)


def test_no_server_is_not_a_refusal() -> None:
    with pytest.raises(Unavailable):
        migrate.check(f"postgresql://x:y@127.0.0.1:{free_port()}/x")


def test_a_server_with_all_connections_taken_is_not_a_refusal(postgres: Postgres, database_url: str) -> None:
    role = sql.Identifier("crowded")
    with psycopg.connect(postgres.superuser_url, autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} login password 'p' connection limit 0").format(role))
        try:
            with pytest.raises(Unavailable, match="too many connections"):
                migrate.check(altered(database_url, username="crowded", password="p"))
        finally:
            connection.execute(sql.SQL("drop role {}").format(role))


def test_a_server_that_is_starting_is_not_a_refusal(tmp_path: Path) -> None:
    """It answers, and says in so many words that it is starting: here, that what it is to recover never comes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(
            target=refuse, args=(listening, b"57P03", b"the database system is starting up"), daemon=True
        ).start()
        with pytest.raises(Unavailable, match="starting up"):
            migrate.check(
                f"postgresql://x:y@127.0.0.1:{listening.getsockname()[1]}/x?sslmode=disable&gssencmode=disable"
            )


def refuse(listening: socket.socket, sqlstate: bytes, message: bytes) -> None:
    """Turn away whoever connects, as PostgreSQL does."""
    fields = b"SFATAL\0VFATAL\0C" + sqlstate + b"\0M" + message + b"\0\0"
    while True:
        try:
            client, _ = listening.accept()
        except OSError:
            return
        with client:
            client.recv(1 << 12)
            client.sendall(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)


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
