"""The stack starts, stops, is told apart from others, and comes back after a crash."""

import json
import os
import signal
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import redis

from agentflow.embedded.identity import identify, is_alive
from agentflow.embedded.stack import Stack
from agentflow.errors import AlreadyRunning
from agentflow.settings import STACK_FILE, Settings

_OWNER = """
import pathlib, sys
from agentflow.embedded.halt import Halt
from agentflow.embedded.stack import Stack
with Halt() as halt, Stack(pathlib.Path(sys.argv[1]), durable=False) as stack:
    stack.publish()
    print("up", flush=True)
    halt.wait(1000)
"""


def _works(stack):
    with closing(psycopg.connect(stack.database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("select 1")
    with redis.Redis.from_url(stack.broker_url) as client:
        client.ping()


def _servers(data_dir):
    return [identify(row["pid"]) for row in json.loads((data_dir / "processes.json").read_text())]


@pytest.fixture
def owner(tmp_path):
    """Another process that runs a stack from tmp_path / "data"."""
    process = subprocess.Popen([sys.executable, "-c", _OWNER, str(tmp_path / "data")], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"up\n"
    yield process
    process.terminate()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("path", ["a path with spaces", "/".join(["deep"] * 60), "ünïcode, 'quotes' & $HOME"])
def test_it_runs_from_any_folder_and_leaves_nothing_running(tmp_path, path):
    data_dir = tmp_path / path
    with Stack(data_dir, durable=False) as stack:
        _works(stack)
        servers = _servers(data_dir)
        sockets = stack.database_url.partition("host=")[2].partition("&")[0]
        assert os.path.isdir(sockets)

    assert len(servers) == 2
    assert not any(is_alive(server) for server in servers)
    assert not os.path.exists(sockets)
    assert not (data_dir / "processes.json").exists()


def test_a_relative_data_directory_is_meant_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Stack(Path("data"), database_url="postgresql://elsewhere/db", broker_url="redis://elsewhere") as stack:
        assert stack.data_dir == tmp_path / "data"


def test_other_processes_find_the_addresses_while_it_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTFLOW_DATA_DIR", str(tmp_path))
    with Stack(tmp_path, durable=False) as stack:
        stack.publish(url="http://127.0.0.1:1")
        assert stat.S_IMODE((tmp_path / STACK_FILE).stat().st_mode) == 0o600
        assert Settings().database() == stack.database_url
        assert Settings().broker() == stack.broker_url
        assert Settings().stack["url"] == "http://127.0.0.1:1"
    assert Settings().stack == {}


def test_a_second_start_is_refused_and_harms_nothing(tmp_path, owner):
    with pytest.raises(AlreadyRunning, match=str(owner.pid)):
        Stack(tmp_path / "data").start()

    assert all(is_alive(server) for server in _servers(tmp_path / "data"))
    assert (tmp_path / "data" / STACK_FILE).exists()


def test_after_its_owner_was_killed_it_starts_again(tmp_path, owner):
    data_dir = tmp_path / "data"
    old = _servers(data_dir)
    owner.send_signal(signal.SIGKILL)
    owner.wait()

    with Stack(data_dir, durable=False) as stack:
        assert stack.crashed
        assert not any(is_alive(server) for server in old)
        _works(stack)

    with Stack(data_dir, durable=False) as stack:
        assert not stack.crashed


def test_what_a_killed_owner_left_is_ended_even_where_children_outlive_their_parents(tmp_path):
    """As on systems other than Linux, and as with a child that is slow to go."""
    left = Stack(tmp_path, durable=False)
    left.start()
    servers = _servers(tmp_path)
    children = left.servers
    os.close(left._lock._file)  # what the system does when the owner dies; the servers live on
    left._lock._file = None

    with Stack(tmp_path, durable=False) as stack:
        assert sorted(stack.orphans) == ["PostgreSQL", "Valkey"]
        assert [child.wait(5.0) for child in children] == [0, 0]
        assert not any(is_alive(server) for server in servers)
        _works(stack)


def test_a_roster_of_strangers_harms_nobody(tmp_path):
    rows = [{"name": "innocent", "pid": os.getpid(), "born": "long ago"}]
    (tmp_path / "processes.json").write_text(json.dumps(rows))

    with Stack(tmp_path, durable=False) as stack:
        assert stack.orphans == []


@pytest.mark.parametrize("text", ["", "{", '[{"pid": 1}]', "null"])
def test_a_roster_that_cannot_be_read_keeps_nobody_from_starting(tmp_path, text):
    (tmp_path / "processes.json").write_text(text)
    with Stack(tmp_path, database_url="postgresql://elsewhere/db", broker_url="redis://elsewhere") as stack:
        assert stack.orphans == []


def test_a_server_whose_address_is_given_is_not_started(tmp_path):
    with Stack(tmp_path, database_url="postgresql://elsewhere/db", broker_url="redis://elsewhere") as stack:
        assert stack.servers == []
        assert stack.database_url == "postgresql://elsewhere/db"
        assert stack.broker_url == "redis://elsewhere"
    assert not (tmp_path / "postgres").exists()
