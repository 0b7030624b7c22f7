"""Sends mail through an SMTP server.

The password is sent only to the server that the credential names in its `base_url`, and only over TLS that verifies the
server's name. The Message-ID is derived from the node execution, so that a second attempt sends the same message and
mail systems can recognise it. A temporary refusal (4xx) is retried if the node's settings say so; others are not.
"""

import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from email.utils import format_datetime
from hashlib import sha256
from threading import Timer
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal

from pydantic import BaseModel, Field

from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.blocks.credentials import Credential, credentials, hold_to_its_server, provider_of
from agentflow.clock import now
from agentflow.errors import BadInput, Transient
from agentflow.graph.catalogue import Dependence
from agentflow.graph.costs import Cost
from agentflow.net.connecting import connect, tls
from agentflow.settings import settings

_PROVIDER: Final = "smtp"
_EXAMPLE: Final = "smtp://mail.example.com:587"

_TLS_PORT: Final = 465
"""The port on which servers speak TLS from the first byte."""

_ALL_ANSWERS: Final = 4
"""All answers together may take this many times the timeout of one."""

_MAX_NESTED_WORDS: Final = 5
"""Levels of nested encoded words that are decoded."""

_LONGEST_ADDRESS: Final = 998
"""Characters of an address with its name: the longest line of a mail."""

_LINE_ENDS: Final = "\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029"

_MOST_SAID: Final = 64 * 1024
"""Bytes that a server may send in all. A few hundred are usual."""

_MOST_SHOWN: Final = 200
"""Characters of a server's answer in a message."""

if TYPE_CHECKING:
    _Credentials = dict[str, Any] | None
else:
    _Credentials = credentials(_PROVIDER, types=("user_password",))


class MailServer(BaseModel):
    """The mail server to send through."""

    smtp_server: str = Field(min_length=1, description="The server's name.")
    smtp_port: int = Field(25, ge=1, le=65_535, description="Its port.")
    security: Literal["auto", "starttls", "tls", "none"] = Field(
        "auto", description="tls: from the first byte (auto on port 465); starttls (auto elsewhere); none: no password."
    )
    from_email: str = Field("", description="The sender's address; left out: the credential's user name.")


class SendEmail(Block):
    id = "4335878a-394e-4e67-adf2-919877ff49ae"
    name = "SendEmail"
    description = "Sends a mail through an SMTP server."
    categories = ("OUTPUT",)
    lane = "io"
    sensitive = True
    depends_on = frozenset({Dependence.OUTSIDE})
    cost = (Cost(1, filter={"credentials": {"system": True}}),)

    class Input(BlockInput):
        to_email: str = Field(description="The receiver's address.")
        subject: str = Field(max_length=2000, description="The subject, of one line.")
        body: str = Field(description="The text.")
        config: MailServer = Field(description="The mail server.")
        credentials: _Credentials = Field(None, description="Whose user name and password to use.")

    class Output(BlockOutput):
        status: str = Field(description="Confirms that the server accepted the mail.")

    # Examples that need a server are in the tests; these need none.
    vectors = (
        TestVector(
            {"to_email": "a@b.test", "subject": "s", "body": "b", "config": {"smtp_server": "mail.test"}},
            fails="there is no credential for smtp",
        ),
        TestVector(
            {"to_email": "a@b.test\r\nBcc: c@d.test", "subject": "s", "body": "b", "config": {"smtp_server": "m.test"}},
            fails="to_email: more than one line",
        ),
        TestVector(
            {"to_email": "a@b.test", "subject": "s\nBcc: c@d.test", "body": "b", "config": {"smtp_server": "m.test"}},
            fails="subject: more than one line",
        ),
        TestVector(
            {"to_email": "nobody", "subject": "s", "body": "b", "config": {"smtp_server": "m.test"}},
            fails="to_email: this is not one mail address",
        ),
        TestVector(
            {"to_email": "\ud800@b.test", "subject": "s", "body": "b", "config": {"smtp_server": "m.test"}},
            fails="to_email: this is not one mail address",
        ),
        TestVector(
            {"to_email": "a@b.test, c@d.test", "subject": "s", "body": "b", "config": {"smtp_server": "m.test"}},
            fails="to_email: this is not one mail address",
        ),
        TestVector(
            {"to_email": "a@b.test", "subject": "s", "body": "b", "config": {"smtp_server": "", "smtp_port": 0}},
            fails="config.smtp_port",
        ),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        server = inputs.config
        receiver = _address("to_email", inputs.to_email)
        _refuse_lines("subject", inputs.subject)
        credential = context.credential(provider_of(inputs.credentials, _PROVIDER))
        hold_to_its_server(credential, server.smtp_server, server.smtp_port, _EXAMPLE)
        sender = _address("config.from_email", server.from_email or credential.username)
        message = _message(inputs, sender, receiver, context.idempotency_key)
        with _failures(server.smtp_server):
            _send(server, credential, message, sender)
        yield "status", "Email sent successfully"


def _address(pin: str, given: str) -> Address:
    """Parses the address of one mailbox.

    Raises:
        BadInput: it is not one.
    """
    if len(given) > _LONGEST_ADDRESS:
        raise BadInput(f"{pin}: an address has at most {_LONGEST_ADDRESS} characters")
    _refuse_lines(pin, given)
    try:
        header = policy.SMTP.header_factory("to", given)
        found = header.addresses
        if len(found) != 1 or header.defects or not found[0].username or not found[0].domain:
            raise ValueError
        address = Address(found[0].display_name, found[0].username, found[0].domain)
        address.domain.encode("idna")
    except Exception:  # the standard library's parser has bugs: IndexError, AttributeError, UnicodeError, …
        raise BadInput(f"{pin}: this is not one mail address") from None
    return address


def _refuse_lines(pin: str, text: str) -> None:
    """Refuses line ends: one in a header would start another header, set by the user or by the source of the value.

    A line end may hide in encoded words (`=?utf-8?q?…?=`), which the mail library decodes.
    """
    for _ in range(_MAX_NESTED_WORDS):
        if len(text.splitlines()) > 1 or text != text.rstrip(_LINE_ENDS) or "\0" in text:
            raise BadInput(f"{pin}: more than one line")
        try:
            decoded = str(policy.SMTP.header_factory("subject", text))
        except Exception:  # the library's parser has bugs; what it cannot read, it will not write either
            return
        if decoded == text:
            return
        text = decoded
    raise BadInput(f"{pin}: encoded words within encoded words")


def _message(inputs: SendEmail.Input, sender: Address, receiver: Address, key: str) -> EmailMessage:
    message = EmailMessage(policy=policy.SMTP)
    try:
        message["From"], message["To"], message["Subject"] = sender, receiver, inputs.subject
        message["Date"] = format_datetime(now())
        domain = sender.domain.encode("idna").decode("ascii")
        message["Message-ID"] = f"<{sha256(key.encode()).hexdigest()[:32]}@{domain}>"
        message.set_content(inputs.body.encode("utf-8", "replace").decode("utf-8"))
    except Exception as error:  # as above
        raise BadInput(f"this cannot be made a mail: {error}") from None
    _refuse_other_headers(message)
    return message


def _refuse_other_headers(message: EmailMessage) -> None:
    """Makes sure that the mail has only the headers that were set, whatever the values contain."""
    if BytesHeaderParser().parsebytes(bytes(message)).keys() != message.keys():
        raise BadInput("this cannot be made a mail: a value would become a header of its own")


def _send(server: MailServer, credential: Credential, message: EmailMessage, sender: Address) -> None:
    over_tls = server.security == "tls" or (server.security == "auto" and server.smtp_port == _TLS_PORT)
    if server.security == "none" and credential.password:
        raise BadInput("config.security: a password is not sent without TLS")
    client = _Client(server, over_tls, sender.domain.encode("idna").decode("ascii"))
    # Each answer has its timeout. This limits a server that sends its answers drop by drop.
    watch = Timer(settings().http_timeout * _ALL_ANSWERS, client.cut)
    watch.daemon = True
    watch.start()
    try:
        client.greet()
        if not over_tls and server.security != "none":
            client.starttls(context=tls())
        if credential.password:
            client.login(credential.username, credential.password)
        client.send_message(message)
        with suppress(smtplib.SMTPException, OSError):  # the server has the mail, so later failures do not matter
            client.quit()
    finally:
        watch.cancel()
        client.close()


class _Client(smtplib.SMTP):
    """Connects only to a checked address of its server. TLS still verifies the server's name."""

    def __init__(self, server: MailServer, over_tls: bool, own_name: str) -> None:
        self._over_tls = over_tls
        self._server = server
        super().__init__(local_hostname=own_name, timeout=settings().http_timeout)  # does not connect yet
        self._host = server.smtp_server  # the name that starttls() verifies

    def greet(self) -> None:
        """Connect, and check that the server is ready."""
        code, words = self.connect(self._server.smtp_server, self._server.smtp_port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, words)

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = _Measured(self.sock.makefile("rb"), self._server.smtp_server)
        return super().getreply()

    def cut(self) -> None:
        """Shuts the connection down, which ends every wait for the server."""
        if self.sock is not None:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        """smtplib's hook for opening the connection."""
        connection = connect(host, port, timeout)
        if not self._over_tls:
            return connection
        try:
            return tls().wrap_socket(connection, server_hostname=host)
        except BaseException:
            connection.close()
            raise


class _Measured:
    """A server's lines. Reading stops when they are too many, because smtplib keeps all lines of an answer."""

    def __init__(self, lines: BinaryIO, host: str) -> None:
        self._lines = lines
        self._host = host
        self._left = _MOST_SAID
        self.close = lines.close

    def readline(self, size: int) -> bytes:
        line = self._lines.readline(size)
        self._left -= len(line)
        if self._left < 0:
            raise BadInput(f"{self._host} cannot be used: it said more than {_MOST_SAID} bytes")
        return line


@contextmanager
def _failures(host: str) -> Iterator[None]:
    """Classifies errors as permanent or temporary.

    Raises:
        BadInput: the server refuses the mail, the user or the protocol.
        Transient: the server may accept the mail later.
    """
    try:
        yield
    except smtplib.SMTPRecipientsRefused as error:
        code, words = next(iter(error.recipients.values()))
        raise _refusal(host, "the receiver", code, words) from None
    except smtplib.SMTPAuthenticationError as error:
        raise _refusal(host, "the user", error.smtp_code, error.smtp_error) from None
    except smtplib.SMTPResponseException as error:
        raise _refusal(host, "the mail", error.smtp_code, error.smtp_error) from None
    except smtplib.SMTPNotSupportedError as error:
        raise BadInput(f"{host} cannot do what is needed: {error}") from None
    except ssl.SSLCertVerificationError:
        raise BadInput(f"the TLS certificate of {host} cannot be trusted") from None
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, smtplib.SMTPServerDisconnected, TimeoutError):
        raise Transient(f"{host} did not answer to the end") from None
    except ssl.SSLError as error:
        raise BadInput(f"TLS with {host} fails: {error.reason or error}") from None
    except smtplib.SMTPException as error:
        raise BadInput(f"{host} cannot be used: {error}") from None
    except OSError as error:
        raise Transient(f"the connection to {host} broke: {error.strerror or error}") from None


def _refusal(host: str, what: str, code: int, words: bytes | str) -> BadInput | Transient:
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    message = f"{host} refuses {what} ({code}): {' '.join(text.split())[:_MOST_SHOWN]}"
    return Transient(message) if 400 <= code < 500 or code < 0 else BadInput(message)
