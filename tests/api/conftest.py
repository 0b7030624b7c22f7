"""These tests run against AgentFlow in this process."""

import time
from uuid import uuid4

import pytest
from installation import *  # noqa: F403

from agentflow.api.auth import Authenticator
from agentflow.dispatch import notices


@pytest.fixture
def listens(monkeypatch):
    """`listens(client, …)`, each of its own process: what their next requests find stays cached."""
    heard = set()
    before = Authenticator.heard

    def hear(self, told):
        before(self, told)
        heard.add(self)

    def wait(*clients):
        deadline = time.monotonic() + 20
        while len(heard) < len(clients):
            assert time.monotonic() < deadline
            for client in clients:
                client.get("/api/v1/me")
            notices.tell("keys", str(uuid4()))

    monkeypatch.setattr(Authenticator, "heard", hear)
    return wait
