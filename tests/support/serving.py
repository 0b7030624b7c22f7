"""The API in a process of its own, as the Procfile starts it."""

import os
import subprocess
import sys
import time

import httpx
import pytest

from agentflow.embedded.private import free_port

START = [sys.executable, "-m", "gunicorn", "--config", "python:agentflow.api.gunicorn", "--no-control-socket"]


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def start_serving(environment):
    """Starts the API on a free port, with more environment variables; gives the process and the address."""
    started = []

    def start(**more: str):
        port = free_port()
        variables = {
            **os.environ,
            "AGENTFLOW_DATABASE_URL": environment.database(),
            "AGENTFLOW_BROKER_URL": environment.broker(),
            **more,
        }
        process = subprocess.Popen(
            [*START, "--bind", f"127.0.0.1:{port}", "agentflow.api.wsgi:app"],
            env=variables,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process, f"http://127.0.0.1:{port}"

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def serve(start_serving):
    """The same, and waits until it answers."""

    def start(**more: str):
        process, url = start_serving(**more)
        give_up_at = time.monotonic() + 30
        while not answers(url):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < give_up_at, "the API does not answer"
            time.sleep(0.05)
        return process, url

    return start
