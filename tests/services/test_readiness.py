"""Whether an installation is ready is said within seconds, also while the broker is frozen."""

import socket
import time
from collections.abc import Iterator

import pytest

from agentflow.services import readiness
from agentflow.settings import Settings, settings


@pytest.fixture
def frozen() -> Iterator[int]:
    """The port of a server that accepts connections, as a stopped process's kernel does, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_frozen_is_not_ready(
    environment: Settings, frozen: int, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setattr(settings(), "broker_url", f"{scheme}://127.0.0.1:{frozen}//")
    readiness.checks.cache_clear()
    began = time.monotonic()
    found = readiness.checks()
    readiness.checks.cache_clear()
    assert found == {"database": readiness.OK, "broker": "The broker cannot be reached."}
    assert time.monotonic() - began < 10
