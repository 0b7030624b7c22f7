"""Mail to a real SMTP server, which takes it, refuses it, wants a password, or does not speak as it should."""

import asyncio
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from hypothesis import given
from hypothesis import settings as settings_of_examples
from hypothesis import strategies as st

from agentflow.blocks import registry
from agentflow.blocks.credentials import Credential
from agentflow.blocks.trial import collect, trial_context
from agentflow.blocks.web import mail
from agentflow.errors import BadInput, Transient
from agentflow.net import connecting, ssrf
from agentflow.settings import settings

CERTIFICATE = Path(__file__).parents[2] / "support" / "tls" / "good.test.pem"
NAME = "good.test"


@dataclass
class Post:
    """What the server got, and what it answers to each step."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    envelopes: list[tuple[str, list[str]]] = field(default_factory=list)
    logins: list[tuple[str, str, bool]] = field(default_factory=list)
    to_receiver: str = "250 OK"
    to_mail: str = "250 OK"
    open_to: tuple[str, str] = ("robot@good.test", "pass")

    async def handle_RCPT(  # noqa: N802 as the library calls it
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.to_receiver.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.to_receiver

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 likewise
        if self.to_mail.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
            self.envelopes.append((envelope.mail_from or "", list(envelope.rcpt_tos)))
        return self.to_mail

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, how: str, given: Any) -> AuthResult:
        assert isinstance(given, LoginPassword)
        user, password = given.login.decode(), given.password.decode()
        self.logins.append((user, password, session.ssl is not None or server.transport.get_extra_info("sslcontext")))
        return AuthResult(success=(user, password) == self.open_to, handled=False)


def _tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


@contextmanager
def serving(post: Post, starttls: bool = True, from_the_start: bool = False, password: bool = True) -> Iterator[Post]:
    """A server that runs in a thread."""
    loop = asyncio.new_event_loop()

    def protocol() -> SMTP:
        return SMTP(
            post,
            hostname=NAME,
            loop=loop,
            tls_context=_tls() if starttls else None,
            require_starttls=starttls,
            authenticator=post.authenticate if password else None,
            auth_required=password and not from_the_start,  # it would warn: it does not know that it speaks TLS
            auth_require_tls=password and not from_the_start,
        )

    tls = _tls() if from_the_start else None
    server = loop.run_until_complete(loop.create_server(protocol, "127.0.0.1", 0, ssl=tls))
    post.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def end() -> None:
        server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    try:
        yield post
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture(autouse=True)
def _trusting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Names end at this machine, and the test's certificate is trusted, as an operator would have it."""

    async def at_home(host: str, port: int) -> list[str]:
        return ["127.0.0.1"] if host.endswith(".test") else await ssrf.resolve(host, port)

    monkeypatch.setattr(connecting, "resolve", at_home)
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    monkeypatch.setenv("AGENTFLOW_HTTP_TIMEOUT", "5")
    connecting.tls.cache_clear()
    yield
    connecting.tls.cache_clear()
    settings.cache_clear()


@pytest.fixture
def send(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Sends a mail through a server: that of `post`, by the name in `host`."""

    def sending(
        post: Post, host: str = NAME, credential: dict[str, Any] | None = None, config: Any = None, **inputs: Any
    ) -> str:
        monkeypatch.setenv("AGENTFLOW_HTTP_ALLOW", f"{host}:{post.port}")
        settings.cache_clear()
        user, password = post.open_to
        fields = {"base_url": f"smtp://{host}:{post.port}", "username": user, "password": password}
        fields |= credential or {}
        server = {"smtp_server": host, "smtp_port": post.port, **(config or {})}
        values = {"to_email": "ann@example.test", "subject": "Hello", "body": "Text", "config": server, **inputs}
        context = trial_context(credential=lambda provider: Credential(provider, **fields), idempotency_key="key-7")
        [(pin, status)] = collect(registry.by_name("SendEmail"), values, context)
        assert pin == "status"
        return str(status)

    return sending


Send = Callable[..., str]


def test_a_mail_goes_out_over_tls_with_the_credentials_password(send: Send) -> None:
    with serving(Post()) as post:
        assert send(post, subject="Grüße", body="Zeile eins\n.\nZeile drei €\n") == "Email sent successfully"
    [mail] = post.mails
    assert (mail["from"], mail["to"], mail["subject"]) == ("robot@good.test", "ann@example.test", "Grüße")
    assert mail.get_content().replace("\r\n", "\n") == "Zeile eins\n.\nZeile drei €\n"
    assert mail["date"]
    assert post.envelopes == [("robot@good.test", ["ann@example.test"])]
    [(user, password, secured)] = post.logins
    assert (user, password, bool(secured)) == ("robot@good.test", "pass", True)


def test_tls_from_the_first_byte(send: Send) -> None:
    with serving(Post(), starttls=False, from_the_start=True) as post:
        send(post, config={"security": "tls"})
    assert len(post.mails) == 1
    assert len(post.logins) == 1


def test_an_attempt_that_is_made_again_sends_the_same_message(send: Send) -> None:
    with serving(Post()) as post:
        send(post)
        send(post)
    first, second = post.mails
    assert first["message-id"] == second["message-id"]
    assert first["message-id"].endswith("@good.test>")


def test_a_server_without_tls_takes_mail_without_a_password(send: Send) -> None:
    with serving(Post(), starttls=False, password=False) as post:
        send(post, credential={"password": ""}, config={"security": "none"})
    assert len(post.mails) == 1


def test_a_password_is_never_sent_without_tls(send: Send) -> None:
    with serving(Post(), starttls=False, password=False) as post:
        with pytest.raises(BadInput, match="not sent without TLS"):
            send(post, config={"security": "none"})
        with pytest.raises(BadInput, match="cannot do what is needed: STARTTLS"):
            send(post)
    assert post.logins == []
    assert post.mails == []


def test_a_name_with_the_address_and_a_sender_of_its_own(send: Send) -> None:
    with serving(Post()) as post:
        send(post, to_email='"Ann, Miss" <ann@example.test>', config={"from_email": "Robot <r@good.test>"})
    [mail] = post.mails
    assert (mail["to"], mail["from"]) == ('"Ann, Miss" <ann@example.test>', "Robot <r@good.test>")
    assert post.envelopes == [("r@good.test", ["ann@example.test"])]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"to_receiver": "450 mailbox busy"}, Transient, r"refuses the receiver \(450\): mailbox busy"),
        ({"to_receiver": "550 no such user"}, BadInput, r"refuses the receiver \(550\): no such user"),
        ({"to_mail": "451 try later"}, Transient, r"refuses the mail \(451\): try later"),
        ({"to_mail": "554 spam"}, BadInput, r"refuses the mail \(554\): spam"),
    ],
)
def test_a_refusal_says_whether_it_may_pass(
    send: Send, change: dict[str, str], error: type[Exception], message: str
) -> None:
    with serving(Post(**change)) as post, pytest.raises(error, match=message):
        send(post)
    assert post.mails == []


def test_a_wrong_password_is_told_and_not_shown(send: Send) -> None:
    with serving(Post()) as post, pytest.raises(BadInput, match=r"refuses the user \(535\)") as raised:
        send(post, credential={"password": "wrong-secret"})
    assert "wrong-secret" not in raised.value.message
    assert post.mails == []


def test_a_certificate_of_another_name_is_refused_before_the_password_is_sent(send: Send) -> None:
    with serving(Post()) as post, pytest.raises(BadInput, match=r"certificate of evil\.test cannot be trusted"):
        send(post, host="evil.test")
    assert post.logins == []


def test_a_server_in_our_own_network_is_not_reached(monkeypatch: pytest.MonkeyPatch, send: Send) -> None:
    with serving(Post()) as post:
        send(post)
        monkeypatch.setenv("AGENTFLOW_HTTP_ALLOW", "")
        settings.cache_clear()
        block = registry.by_name("SendEmail")
        server = {"smtp_server": "127.0.0.1", "smtp_port": post.port}
        context = trial_context(credential=lambda provider: Credential(provider, base_url="smtp://127.0.0.1"))
        inputs = {"to_email": "a@b.test", "subject": "s", "body": "b", "config": server | {"from_email": "r@b.test"}}
        with pytest.raises(BadInput, match="may not be reached from here"):
            collect(block, inputs, context)
    assert len(post.mails) == 1


@pytest.mark.parametrize(
    ("base_url", "message"),
    [
        ("", "does not say for which server"),
        ("smtp://[", "base_url that is no address"),
        ("smtp://good.test:many", "base_url that is no address"),
        ("smtp://other.test:{port}", r"is for other\.test:\d+, and goes nowhere else"),
        ("smtp://good.test:1", r"is for good\.test:1, and goes nowhere else"),
    ],
)
def test_the_password_goes_to_its_own_server_only(send: Send, base_url: str, message: str) -> None:
    with serving(Post()) as post, pytest.raises(BadInput, match=message):
        send(post, credential={"base_url": base_url.format(port=post.port)})
    assert post.logins == []


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\x0b", "\x85", "\u2028", "\0"])
@pytest.mark.parametrize("pin", ["to_email", "subject", "from_email"])
def test_a_header_cannot_bring_another_along(send: Send, pin: str, end: str) -> None:
    text = f"a@b.test{end}Bcc: victim@example.test"
    values: dict[str, Any] = {"config": {pin: text}} if pin == "from_email" else {pin: text}
    with serving(Post()) as post, pytest.raises(BadInput, match=f"{pin}: more than one line"):
        send(post, **values)
    assert post.envelopes == []


ENCODED = [
    "=?utf-8?q?a=0D=0AReply-To:_x?=",
    "=?utf-8?q?a=0AReply-To:_x?=",
    "=?UTF-8?B?" + b64encode(b"a\r\nBcc: c@d.test\r\n\r\nnew body").decode() + "?=",
    "=?utf-8?q?=3D=3Futf-8=3Fq=3Fa=3D0D=3D0AReply-To=3A=5Fx=3F=3D?=",
    "=?iso-8859-1?q?a=85b?=",
    "before =?utf-8?q?one?= =?utf-8?q?=0D=0Atwo:_x?=",
]


@pytest.mark.parametrize("word", ENCODED)
@pytest.mark.parametrize("form", ["{}", "{} <a@b.test>", "{}@b.test", "a@{}", '"{}" <a@b.test>'])
@pytest.mark.parametrize("pin", ["to_email", "subject", "from_email"])
def test_a_line_end_in_an_encoded_word_is_one(send: Send, pin: str, form: str, word: str) -> None:
    """And what is wrong with an address is its user's mistake."""
    text = form.format(word)
    values: dict[str, Any] = {"config": {pin: text}} if pin == "from_email" else {pin: text}
    with serving(Post()) as post, pytest.raises(BadInput, match=pin):
        send(post, **values)
    assert post.envelopes == []


PIECES = st.sampled_from(
    [
        *ENCODED,
        "a",
        "ü",
        " ",
        "<",
        ">",
        "@",
        "a@b.test",
        '"',
        ",",
        ":",
        ";",
        "(",
        "\\",
        "=?",
        "?=",
        "\t",
        ".",
        "[",
        "]",
        "\ud800",
    ]
)
TEXTS = st.lists(PIECES | st.text(max_size=3), max_size=6).map("".join)
ADDRESSES = TEXTS | TEXTS.map("{} <a@b.test>".format) | st.just("a@b.test")


@given(subject=TEXTS, receiver=ADDRESSES, sender=ADDRESSES)
@settings_of_examples(max_examples=300, deadline=None)
def test_whatever_is_given_a_mail_has_its_own_headers_only(subject: str, receiver: str, sender: str) -> None:
    names = ["From", "To", "Subject", "Date", "Message-ID", "Content-Type", "Content-Transfer-Encoding", "MIME-Version"]
    inputs = mail.SendEmail.Input(
        to_email=receiver,
        subject=subject.encode("utf-8", "replace").decode(),
        body="b",
        config=mail.MailServer(smtp_server="m"),
    )
    try:
        to, by = (mail._address("to_email", text) for text in (receiver, sender))
        mail._refuse_lines("subject", inputs.subject)
        message = mail._message(inputs, by, to, "key")
    except BadInput:
        return
    assert sorted(message_from_bytes(bytes(message)).keys()) == sorted(names)


def test_a_long_subject_is_folded_and_whole(send: Send) -> None:
    subject = "ü long subject " * 100
    with serving(Post()) as post:
        send(post, subject=subject.strip())
    assert post.mails[0]["subject"] == subject.strip()


@pytest.mark.parametrize("says", [b"", b"421 too busy\r\n", b"554 go away\r\n", b"220", b"SSH-2.0-OpenSSH\r\n"])
def test_a_server_that_does_not_greet_as_it_should(monkeypatch: pytest.MonkeyPatch, send: Send, says: bytes) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        connection.sendall(says)
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    expected = BadInput if says.startswith(b"554") else Transient
    with pytest.raises(expected, match=r"good\.test"):
        send(Post(port=listener.getsockname()[1]))
    thread.join(10)
    listener.close()


@pytest.mark.parametrize(
    ("every", "patience", "error", "told"),
    [(0.05, "0.3", Transient, "did not answer to the end"), (0, "30", BadInput, "said more than 65536 bytes")],
)
def test_a_server_that_never_comes_to_an_end_is_given_up(
    monkeypatch: pytest.MonkeyPatch, send: Send, every: float, patience: str, error: type[Exception], told: str
) -> None:
    monkeypatch.setenv("AGENTFLOW_HTTP_TIMEOUT", patience)
    listener = socket.create_server(("127.0.0.1", 0))
    leave = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                while not leave.wait(every):
                    connection.sendall(b"220-still\r\n")
            except OSError:
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(error, match=told):
        send(Post(port=listener.getsockname()[1]))
    leave.set()
    thread.join(10)
    listener.close()


def test_nobody_listens(send: Send) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Transient, match=f"good.test cannot be reached on port {port}"):
        send(Post(port=port))
