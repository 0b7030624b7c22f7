"""The API as gunicorn serves it: it refuses a wrong schema, and stops at once although somebody listens to events."""

import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from agentflow.embedded.private import free_port

START = [sys.executable, "-m", "gunicorn", "--config", "python:agentflow.api.gunicorn", "--no-control-socket"]


@pytest.fixture
def serve(environment, tmp_path):
    """Starts gunicorn on a free port; gives the process and the address."""
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


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_it_stops_at_once_although_somebody_listens(serve, key, submit, eventually):
    process, url = serve()
    eventually(lambda: answers(url))
    run = submit()
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.stream("GET", f"{url}/api/v1/runs/{run}/events", headers=headers, timeout=30) as stream:
        lines = stream.iter_lines()
        assert "retry" in next(lines)
        told = time.monotonic()
        process.send_signal(signal.SIGTERM)
        list(lines)  # the stream ends, and is not cut
    process.wait(20)
    assert time.monotonic() - told < 5
    assert process.returncode == 0


def test_too_large_a_body_gets_its_answer(serve, key, eventually):
    _, url = serve(AGENTFLOW_MAX_BODY_BYTES="1000")
    eventually(lambda: answers(url))
    reply = httpx.post(f"{url}/api/v1/graphs", content=b"x" * 5000, headers={"Authorization": f"Bearer {key}"})
    assert (reply.status_code, reply.json()["type"]) == (413, "urn:agentflow:problem:too-large")


def test_it_refuses_to_start_on_an_empty_database(serve, empty_database_url):
    process, _ = serve(AGENTFLOW_DATABASE_URL=empty_database_url)
    _, said = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "agentflow db upgrade" in said
    assert "Traceback" not in said
