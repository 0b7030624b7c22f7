"""The operator's mail server: tried by doctor, used over TLS with a login, and what it says is understood."""

from email.header import decode_header
from email.parser import BytesHeaderParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from agentflow.cli.checks import _notifications
from agentflow.errors import BadInput, Transient
from agentflow.notifications import by_email
from agentflow.notifications.message import Message
from agentflow.settings import Settings, settings

MESSAGE = Message("id", "test", "now", "subject", "text", "<p>html</p>")


def found():
    return [(one.name, one.level) for one in _notifications(settings())]


SUBJECT = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=300)


@given(SUBJECT)
@example("Мой ночной отчёт о продажах во всех магазинах не удался, потому что узел не ответил вовремя " * 3)
@example("é " * 150)
@example("a" * 80 + " ü " + "b" * 80)
def test_a_subject_arrives_as_it_was_and_no_line_is_long(subject):
    subject = " ".join(subject.split()).replace("=?", "= ?")
    written = bytes(
        by_email.compose("a@b.example", "c@d.example", Message("id", "test", "now", subject, "t", "<p>t</p>"))
    )
    head = written.partition(b"\r\n\r\n")[0]
    assert head.isascii()
    assert all(len(line) <= (78 if not subject.isascii() else 998) for line in head.split(b"\r\n"))
    parts = decode_header(BytesHeaderParser().parsebytes(written)["subject"] or "")
    texts = [part if isinstance(part, str) else part.decode(charset or "ascii") for part, charset in parts]
    assert " ".join("".join(texts).split()) == subject


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
