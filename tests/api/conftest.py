"""These tests run against AgentFlow in this process."""

import time
from uuid import uuid4

import pytest
from installation import *  # noqa: F403
from serving import serve, start_serving  # noqa: F401

from agentflow.dispatch import notices
from agentflow.services.authentication import Authenticator


@pytest.fixture
def listens(monkeypatch):
    """`listens(client, …)`, each of its own process: what their next requests find stays cached."""
    heard = []
    before = Authenticator.heard

    def hear(self, told):
        before(self, told)
        heard.append((self, told))

    def wait(*clients):
        of_them = [client.application.extensions["authenticator"] for client in clients]
        deadline = time.monotonic() + 20

        def all_heard(told=None):
            assert time.monotonic() < deadline
            return all(any(one is by and told in (None, text) for by, text in heard) for one in of_them)

        while not all_heard():
            for client in clients:
                client.get("/api/v1/me")
            notices.tell("keys", str(uuid4()))
        last = str(uuid4())  # what was told before is heard before: nothing more is forgotten
        notices.tell("keys", last)
        while not all_heard(last):
            time.sleep(0.01)

    monkeypatch.setattr(Authenticator, "heard", hear)
    return wait
