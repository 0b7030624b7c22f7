"""`agentflow up` runs everything, says so, and leaves nothing behind."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agentflow.embedded.identity import command_line, identify, is_alive
from agentflow.embedded.lock import Occupancy, occupancy
from agentflow.embedded.private import free_port

_PROCFILE = """\
web: exec python -m http.server "$PORT" --bind 127.0.0.1 --directory .
worker: echo "working as $CELERY_WORKER_HOSTNAME for $AGENTFLOW_URL"; exec sleep 1000
flower: : "${FLOWER_BASIC_AUTH:?set it}" && exec sleep 1000
"""


class Up:
    """One `agentflow up` over tmp_path / "data dir", with processes that start at once."""

    def __init__(self, folder: Path, *options: str, procfile: str = _PROCFILE) -> None:
        self.data_dir = folder / "data dir"
        (folder / "Procfile").write_text(procfile)
        self._log = folder / f"up-{len(list(folder.glob('up-*')))}.log"
        command = [sys.executable, "-m", "agentflow.cli.main", "up", "--data-dir", str(self.data_dir)]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                [*command, "--procfile", str(folder / "Procfile"), *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    @property
    def told(self) -> str:
        return self._log.read_text()

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.told
        return "AgentFlow is up" in self.told and "Logs, data" in self.told

    def children(self):
        """The identities of all that it runs, by name."""
        rows = json.loads((self.data_dir / "processes.json").read_text())
        return {row["name"]: identify(row["pid"]) for row in rows}


@pytest.fixture
def start(tmp_path, eventually):
    """Starts one and waits until it is up."""
    started = []

    def _start(*options: str, wait: bool = True, usual_ports: bool = False, **more: str) -> Up:
        if not usual_ports and "--port" not in options:  # others on this machine may want the usual one now
            options += ("--port", str(free_port()))
        started.append(Up(tmp_path, *options, **more))
        if wait:
            eventually(started[-1].is_up, 40)
        return started[-1]

    yield _start
    for one in started:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGINT)
            one.process.wait(40)


def test_it_starts_everything_tells_where_and_stops_it_in_order(start, eventually):
    up = start("--workers", "3")
    eventually(lambda: up.told.count("working as") == 3)
    children = up.children()
    assert list(children) == ["PostgreSQL", "Valkey", "web.1", "worker.1", "worker.2", "worker.3", "flower.1"]
    key_file = up.data_dir / "api_key"
    assert f"new, in {key_file}" in up.told
    assert key_file.read_text().strip() not in up.told
    url = (up.data_dir / "api_url").read_text().strip()
    assert f"{url}/api/v1" in up.told
    for name in ("api_key", "api_url", "flower_password", "stack.json", "secrets.json"):
        assert stat.S_IMODE((up.data_dir / name).stat().st_mode) == 0o600, name

    up.process.send_signal(signal.SIGINT)

    assert up.process.wait(40) == 0
    assert up.told.endswith("Stopped.\n")
    assert not any(map(is_alive, filter(None, children.values())))
    assert not (up.data_dir / "stack.json").exists()
    assert not (up.data_dir / "api_url").exists()  # who has that port next is sent no key
    assert occupancy(up.data_dir) is Occupancy.FREE


def test_no_password_is_in_any_argument(start):
    up = start()
    secrets = json.loads((up.data_dir / "secrets.json").read_text())
    passwords = [value for name, value in secrets.items() if not name.endswith("_port")]
    arguments = [command_line(child.pid) for child in up.children().values()]

    assert len(passwords) == 5
    assert all(arguments)
    assert not [password for password in passwords if password in up.told + " ".join(arguments)]


def test_sigterm_stops_it_too_even_while_it_starts(start, eventually):
    up = start(wait=False)
    eventually(lambda: (up.data_dir / "lock").exists())
    up.process.send_signal(signal.SIGTERM)

    assert up.process.wait(40) == 0
    assert occupancy(up.data_dir) is Occupancy.FREE
    assert not (up.data_dir / "processes.json").exists()


def test_a_second_one_over_the_same_data_says_so_and_changes_nothing(start):
    first = start()
    second = start(wait=False)

    assert second.process.wait(20) == 1
    assert f"already runs from {first.data_dir} (process {first.process.pid}" in second.told
    assert all(map(is_alive, first.children().values()))


def test_a_killed_one_is_recovered_with_its_data(start):
    killed = start()
    left = killed.children()
    key = (killed.data_dir / "api_key").read_text()
    killed.process.kill()
    killed.process.wait()

    again = start()

    assert "died without stopping" in again.told
    assert not any(map(is_alive, filter(None, left.values())))
    assert (again.data_dir / "api_key").read_text() == key
    assert "new, in" not in again.told


def test_when_a_server_dies_the_rest_is_stopped_and_it_is_named(start):
    up = start()
    children = up.children()
    os.kill(children["Valkey"].pid, signal.SIGKILL)

    assert up.process.wait(40) == 1
    assert "Valkey ended by itself" in up.told
    assert not any(map(is_alive, children.values()))


@pytest.mark.parametrize("name", ["worker.2", "web.1", "flower.1"])
def test_a_process_that_is_killed_is_started_again_and_the_others_go_on(start, eventually, name):
    up = start()
    before = up.children()
    os.kill(before[name].pid, signal.SIGKILL)

    eventually(lambda: f"{name} runs again" in up.told, 20)
    assert f"{name} ended by itself (signal 9)" in up.told
    after = up.children()
    assert after.keys() == before.keys()
    assert after[name] != before[name]
    assert is_alive(after[name])
    assert {one: after[one] for one in after if one != name} == {one: before[one] for one in before if one != name}
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(40) == 0
    assert not any(map(is_alive, after.values()))


def test_a_process_that_ends_again_and_again_is_given_up_with_the_reason(start):
    flower = "sleep 1; echo the reason is this; exit 7"
    up = start(procfile=_PROCFILE.replace("exec sleep 1000\n", f"{flower}\n").replace("worker: echo", "worker: : "))
    children = up.children()

    assert up.process.wait(60) == 1
    assert up.told.count("ended by itself (exit code 7); it is started again") >= 4
    assert re.search(r"ended by itself \(exit code 7\), 5 times within 60 s", up.told)
    assert "the reason is this" in up.told.partition("5 times within")[2]
    assert not any(map(is_alive, filter(None, children.values())))


def test_logs_are_kept_on_the_disk_for_their_owner_alone(start, eventually):
    up = start()
    log = up.data_dir / "logs" / "worker.1.log"
    eventually(lambda: "working as" in log.read_text())
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    eventually(lambda: "working as" in up.told)  # where there is no terminal they are printed, too


def test_without_its_processes_lines_only_the_banner_is_on_the_terminal(start, eventually):
    up = start("--no-logs")
    eventually(lambda: "working as" in (up.data_dir / "logs" / "worker.1.log").read_text())
    assert "working as" not in up.told
    assert "AgentFlow is up" in up.told


def test_the_port_is_the_same_from_one_start_to_the_next(start):
    ups = [start("--port", str(free_port()))]
    for _ in range(2):
        _stop(ups[-1])
        ups.append(start(usual_ports=True))
    urls = [re.search(r"API +(http://\S+)/api/v1", up.told)[1] for up in ups]
    assert len(set(urls)) == 1


def test_a_port_of_the_last_time_that_is_taken_is_exchanged_and_it_is_said(start):
    port = free_port()
    first = start("--port", str(port))
    _stop(first)
    with socket.create_server(("127.0.0.1", port)):
        second = start(usual_ports=True)
    assert f"Port {port}, where this was the last time, is taken" in second.told


def _stop(up):
    up.process.send_signal(signal.SIGINT)
    return up.process.wait(40) == 0


def test_a_process_that_does_not_start_stops_the_rest(start):
    up = start(wait=False, procfile=_PROCFILE.replace("exec python", "exec no-such-program"))

    assert up.process.wait(40) == 1
    # 127: not found; 126: an ordinary user whose PATH has folders that are not theirs
    assert re.search(r"web\.1 ended by itself \(exit code 12[67]\)", up.told)
    assert occupancy(up.data_dir) is Occupancy.FREE


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(start):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        up = start("--port", port, wait=False)

        assert up.process.wait(40) == 1
    assert f"port {port} is taken" in up.told


def test_usual_ports_that_are_taken_are_exchanged_for_free_ones(start):
    taken = []
    for port in (8080, 5555):
        try:
            taken.append(socket.create_server(("127.0.0.1", port)))
        except OSError:  # taken already: as good
            continue
    up = start(usual_ports=True)
    for server in taken:
        server.close()

    assert "http://127.0.0.1:8080/" not in up.told
    assert "http://127.0.0.1:5555 " not in up.told


def test_servers_whose_addresses_are_set_are_used(start, monkeypatch, database_url, broker_url):
    monkeypatch.setenv("AGENTFLOW_DATABASE_URL", database_url)
    monkeypatch.setenv("AGENTFLOW_BROKER_URL", broker_url)

    up = start("--no-flower")

    assert list(up.children()) == ["web.1", "worker.1", "worker.2"]
