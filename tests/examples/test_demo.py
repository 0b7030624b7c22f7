"""`agentflow demo`, whole: a real stack, real workers, and nothing left afterwards."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.scenario

DEMO = [sys.executable, "-m", "agentflow.cli.main", "demo"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the demo is started, with a blank in its path."""
    path = tmp_path / "a folder"
    path.mkdir()
    return path


def processes_that_name(text: str) -> list[str]:
    """The command lines and environments of running processes that contain `text`, this one aside."""
    found = []
    for entry in Path("/proc").iterdir() if Path("/proc").is_dir() else ():  # other systems have no such folder
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            content = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if text.encode() in content:
            found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def await_nobody(text: str, seconds: float = 10.0) -> list[str]:
    """Whoever still names `text` after so long."""
    deadline = time.monotonic() + seconds
    while (left := processes_that_name(text)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def test_the_demo_runs_every_exhibit_on_two_workers_and_leaves_nothing_running(folder: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--all", "--json", "--data-dir", "data"], cwd=folder, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["as_expected"]
    assert [row["run"]["status"] for row in told["runs"]] == ["COMPLETED"] * 6
    assert all(row["as_expected"] for row in told["runs"])
    assert len(told["workers"]) == 2
    assert await_nobody(str(folder)) == []
    assert (folder / "data" / "logs").is_dir()


def test_the_demo_stops_everything_when_it_is_interrupted(folder: Path) -> None:
    with subprocess.Popen(
        [*DEMO, "--data-dir", "data"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "Page digest" in line:
                break
        demo.send_signal(signal.SIGINT)
        said = demo.stdout.read()
        assert demo.wait(60) == 130, said
    assert "Stopping" in said
    assert await_nobody(str(folder)) == []


def test_two_demos_cannot_share_a_data_directory(folder: Path) -> None:
    from agentflow.embedded.lock import Lock
    from agentflow.embedded.private import private_folder

    lock = Lock(private_folder(folder / "data"))
    lock.acquire()
    try:
        second = subprocess.run([*DEMO, "--data-dir", "data"], cwd=folder, capture_output=True, text=True, timeout=60)
    finally:
        lock.release()
    assert second.returncode == 1
    assert "already runs" in second.stderr
    assert "Traceback" not in second.stderr
