"""The operator's mail server: tried by doctor, used over TLS with a login, and what it says is understood."""

import pytest
from pydantic import ValidationError

from agentflow.cli.checks import _notifications
from agentflow.errors import BadInput, Transient
from agentflow.notifications import by_email
from agentflow.notifications.message import Message
from agentflow.settings import Settings, settings

MESSAGE = Message("id", "test", "now", "subject", "text", "<p>html</p>")


def found():
    return [(one.name, one.level) for one in _notifications(settings())]


def test_doctor_tries_the_mail_server_and_sends_nothing(reachable, mailbox, monkeypatch):
    assert found() == [("notifications", "ok")]
    assert mailbox.asked == 0
    monkeypatch.setenv("AGENTFLOW_SMTP_PORT", "1")
    monkeypatch.setenv("AGENTFLOW_NOTIFICATION_TEMPLATES", "/nowhere/at/all")
    settings.cache_clear()
    assert found() == [("notifications", "fail"), ("templates", "warn")]


def test_doctor_says_that_none_is_set_up(environment):
    assert found() == [("notifications", "ok")]


def test_without_tls_where_it_is_wanted_nothing_is_sent(reachable, mailbox, monkeypatch):
    monkeypatch.setenv("AGENTFLOW_SMTP_SECURITY", "starttls")
    settings.cache_clear()
    with pytest.raises(Transient, match="cannot be used"):
        by_email.send("ann@example.com", MESSAGE, 2)
    monkeypatch.setenv("AGENTFLOW_SMTP_SECURITY", "tls")
    settings.cache_clear()
    with pytest.raises(Transient, match="cannot be used"):
        by_email.send("ann@example.com", MESSAGE, 2)
    assert mailbox.got == []


@pytest.mark.parametrize(("said", "error"), [("450 later", Transient), ("550 no", BadInput), (None, Transient)])
def test_what_the_server_says_is_understood(reachable, mailbox, said, error):
    mailbox.turns = lambda number: said
    with pytest.raises(error):
        by_email.send("ann@example.com", MESSAGE, 0.5)


@pytest.mark.parametrize(
    "given",
    [
        {"smtp_host": "mail"},
        {"smtp_host": "mail", "mail_from": "a@b\r\nBcc: c@d"},
        {"smtp_host": "mail", "mail_from": "a@b.example", "smtp_user": "u"},
        {
            "smtp_host": "mail",
            "mail_from": "a@b.example",
            "smtp_user": "u",
            "smtp_password": "p",
            "smtp_security": "none",
        },
    ],
)
def test_half_a_mail_server_is_no_setting(given):
    with pytest.raises(ValidationError):
        Settings(**given)
