"""A command can have an AgentFlow of its own, whatever the environment says, and leaves nothing behind."""

import os
import signal
import subprocess
import sys

import httpx
import pytest

from agentflow.embedded.local import local_stack

_COMMAND = """
import time
from agentflow.embedded.local import local_stack
with local_stack(workers=1) as (url, key):
    print(url, flush=True)
    time.sleep(1000)
"""


def test_it_answers_with_its_own_key_and_is_gone_afterwards(monkeypatch):
    monkeypatch.setenv("AGENTFLOW_DATABASE_URL", "postgresql://somebody@elsewhere/else")
    with (
        local_stack(workers=1) as (url, key),
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}) as client,
    ):
        assert client.get("/api/v1/graphs").json()["items"] == []
        assert client.get("/readyz").status_code == 200

    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_is_told_to_stop_stops_its_servers(tmp_path, number, eventually):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", _COMMAND],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    ) as command:
        url = command.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        command.send_signal(number)
        command.wait(40)

    assert list(tmp_path.iterdir()) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
