"""The embedded Valkey is private, keeps what it was given, and never keeps us from starting."""

import os
import signal
import stat

import pytest
import redis

from agentflow.embedded.keys import Secrets
from agentflow.embedded.roster import Roster
from agentflow.embedded.valkey import Valkey


@pytest.fixture
def make(tmp_path):
    """Makes servers over one data directory, with a blank and a quote in its path, and stops them at the end."""
    made = []
    data_dir = tmp_path / 'a "quoted" folder'
    data_dir.mkdir()

    def _make() -> Valkey:
        made.append(Valkey(data_dir, Secrets(data_dir), Roster(data_dir)))
        return made[-1]

    yield _make
    for server in made:
        server.stop()


def _client(server):
    return redis.Redis.from_url(server.url)


def test_the_password_is_needed_and_stands_in_no_argument_and_no_open_file(make, tmp_path):
    server = make()
    server.start()
    port = server.url.rpartition(":")[2].removesuffix("/0")

    with redis.Redis(port=int(port), retry=None) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    for path in tmp_path.rglob("*.conf"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_restart_keeps_the_port_and_what_was_published(make):
    server = make()
    server.start()
    with _client(server) as client:
        client.lpush("queue", "message")
    url = server.url
    server.stop()

    again = make()
    again.start()

    assert again.url == url
    with _client(again) as client:
        assert client.lrange("queue", 0, -1) == [b"message"]


def test_it_refuses_to_throw_messages_away(make):
    server = make()
    server.start()
    with _client(server) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_a_taken_port_is_exchanged_for_another(make):
    first, second = make(), make()
    first.start()
    second.start()

    assert first.url != second.url


def test_memory_that_it_cannot_read_is_set_aside(make, tmp_path):
    server = make()
    server.start()
    with _client(server) as client:
        client.set("key", "value")
    os.kill(server.child.pid, signal.SIGKILL)
    server.child.wait(10.0)
    folder = next(tmp_path.rglob("appendonlydir"))
    for part in folder.iterdir():
        part.write_bytes(b"rubbish")

    again = make()
    again.start()

    with _client(again) as client:
        assert client.get("key") is None
    assert (folder.parent / "unreadable-1").is_dir()
