"""The operator's mail server: tried by doctor, used over TLS with a login, and what it says is understood."""

import ssl
from datetime import UTC, datetime, timedelta
from email.header import decode_header
from email.parser import BytesHeaderParser
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from receivers import LOGIN, mailbox_running

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
    assert b"?==?" not in head, "encoded words are apart"
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


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    """A certificate for 127.0.0.1 that nobody signed: the TLS of a server, and the file for those who trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    today = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    return context, certificate


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_it_is_sent_over_tls_with_a_login_to_whom_we_trust(reachable, certified, monkeypatch, security):
    context, certificate = certified
    with mailbox_running(context, at_once=security == "tls") as box:
        monkeypatch.setenv("AGENTFLOW_SMTP_PORT", str(box.port))
        monkeypatch.setenv("AGENTFLOW_SMTP_SECURITY", security)
        monkeypatch.setenv("AGENTFLOW_SMTP_USER", "robot")
        monkeypatch.setenv("AGENTFLOW_SMTP_PASSWORD", "wrong")

        def sent():
            settings.cache_clear()
            by_email._tls.cache_clear()
            by_email.send("ann@example.com", MESSAGE, 5)

        with pytest.raises(Transient, match="certificate"):
            sent()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with pytest.raises(Transient, match="535"):
            sent()
        monkeypatch.setenv("AGENTFLOW_SMTP_PASSWORD", LOGIN)
        assert box.asked == 0
        sent()
        assert found() == [("notifications", "ok")]
        assert [mail["subject"] for mail in box.got] == ["subject"]
        monkeypatch.setenv("AGENTFLOW_SMTP_HOST", "127.0.0.2")  # for which the certificate is not
        with pytest.raises(Transient, match=r"127\.0\.0\.2"):
            sent()
    by_email._tls.cache_clear()


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
