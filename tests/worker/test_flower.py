"""The dashboard, as the Procfile starts it: without its password it shows nothing of anybody's work."""

import os
import subprocess
import sysconfig

import httpx
import pytest

from agentflow.embedded.private import free_port

PATHS = ["/", "/workers", "/tasks", "/broker", "/api/workers", "/api/tasks", "/api/queues/length", "/metrics"]


@pytest.fixture
def flower(environment):
    """Its address."""
    port = free_port()
    process = subprocess.Popen(
        [f"{sysconfig.get_path('scripts')}/celery", "--quiet", "-A", "agentflow", "flower", f"--port={port}",
         "--address=127.0.0.1", "--read-only"],
        env={
            **os.environ,
            "AGENTFLOW_DATABASE_URL": environment.database(),
            "AGENTFLOW_BROKER_URL": environment.broker(),
            "FLOWER_BASIC_AUTH": "me:secret",
        },
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


def test_it_shows_nothing_without_its_password(flower, eventually):
    def answers() -> bool:
        try:
            return httpx.get(f"{flower}/healthcheck").status_code == 200
        except httpx.TransportError:
            return False

    eventually(answers)
    for path in PATHS:
        for auth in (None, ("me", "wrong")):
            assert httpx.get(f"{flower}{path}", auth=auth).status_code == 401, path
    assert "flower_" in httpx.get(f"{flower}/metrics", auth=("me", "secret")).text
