"""These tests run against AgentFlow in this process, and receivers on loopback."""

from uuid import UUID

import pytest
from installation import *  # noqa: F403
from receivers import *  # noqa: F403
from sqlalchemy import text

from agentflow.notifications import delivery, planning, service
from agentflow.notifications.kinds import Kind
from agentflow.services.transaction import carry_out, transaction
from agentflow.settings import settings


@pytest.fixture
def ask(environment):
    """`ask(statement, name=value, …)`: what the database says."""

    def rows(statement, **values):
        with transaction() as session:
            found = session.execute(text(statement), values)
            return found.all() if found.returns_rows else None

    return rows


@pytest.fixture
def owner(api, ask):
    """The id of the one who asks through `api`."""
    return UUID(api.get("/api/v1/me").json["user"]["id"])


@pytest.fixture
def note(owner):
    """Tells the owner something."""

    def write(cause, kind=Kind.RUN_FAILED, **data):
        with transaction() as session:
            data = {"graph_name": "my graph", "run": "r", "reason": "node_failed", **data}
            return service.note(session, owner, kind, cause, data)

    return write


@pytest.fixture
def reachable(environment, hook, mailbox, monkeypatch):
    """The receivers may be reached although they are on loopback, and the mail server is the operator's."""
    monkeypatch.setenv("AGENTFLOW_HTTP_ALLOW", hook.pair)
    monkeypatch.setenv("AGENTFLOW_SMTP_HOST", "127.0.0.1")
    monkeypatch.setenv("AGENTFLOW_SMTP_PORT", str(mailbox.port))
    monkeypatch.setenv("AGENTFLOW_SMTP_SECURITY", "none")
    monkeypatch.setenv("AGENTFLOW_MAIL_FROM", "robot@agentflow.test")
    monkeypatch.setenv("AGENTFLOW_PUBLIC_URL", "https://flows.example.com")
    monkeypatch.setenv("AGENTFLOW_NOTIFICATION_SECONDS", "1")
    settings.cache_clear()


@pytest.fixture
def channel(api, reachable, hook):
    """Makes a channel: by default to the webhook."""

    def make(kind="webhook", address=None, **more):
        body = {"kind": kind, "name": f"my {kind}", "address": address or hook.url, **more}
        made = api.post("/api/v1/notifications/channels", json=body)
        assert made.status_code == 201, made.json
        return made.json

    return make


@pytest.fixture
def deliver(ask):
    """Does what chores and workers do, until nothing is due; `late`: also what is to be tried again."""

    def go_on(*, late=False):
        with transaction() as session:
            while planning.plan(session):
                pass
        for _ in range(200):
            if late:
                ask("UPDATE notification_channels SET open_at = NULL, next_at = now() WHERE next_at IS NOT NULL")
                ask("UPDATE notification_deliveries SET due_at = now() WHERE state = 'WAITING'")
            due = ask("SELECT id FROM notification_channels WHERE next_at <= now() ORDER BY id")
            if not due:
                return
            for (channel_id,) in due:
                carry_out(delivery.deliver_next(channel_id))
        raise AssertionError("there is no end")

    return go_on
