"""Sends messages by e-mail, through the operator's mail server: as text and HTML, with a way to unsubscribe.

No text becomes a header: the subject is one line, and an address is refused when a channel is made unless it is plain.
The server is the operator's, so it may be a private address; who receives is what users choose.
"""

import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.header import Header
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from email.policy import EmailPolicy
from email.utils import format_datetime
from functools import cache
from threading import Timer
from typing import Final

from agentflow.clock import now
from agentflow.errors import BadInput, Transient
from agentflow.notifications.message import Message
from agentflow.settings import Settings, mail_address, settings

NOT_SET_UP: Final = "this installation sends no e-mail: its operator sets AGENTFLOW_SMTP_HOST and AGENTFLOW_MAIL_FROM"


class _Policy(EmailPolicy):
    """Writes a subject that is not ASCII as encoded words by `Header`.

    Python's own folding loses the spaces between the words of a long one (python/cpython#92081), or since 3.12.5 puts
    words side by side, which some servers refuse (python/cpython#144156).
    """

    def fold_binary(self, name: str, value: str) -> bytes:
        """A header as it goes over the wire."""
        if name == "Subject" and not value.isascii():
            words = Header(str(value), "utf-8", header_name=name).encode(linesep=self.linesep)
            return f"{name}: {words}{self.linesep}".encode()
        return bytes(super().fold_binary(name, value))


_POLICY: Final = _Policy(linesep="\r\n")

_MOST_SHOWN: Final = 200
"""Characters of a server's answer in an error."""


def check(address: str) -> str:
    """The address, if messages can be sent to it.

    Raises:
        BadInput: it is no mail address, or this installation sends no e-mail.
    """
    if settings().smtp_host is None:
        raise BadInput(NOT_SET_UP)
    try:
        return mail_address(address)
    except ValueError as error:
        raise BadInput(str(error)) from None


def send(address: str, message: Message, seconds: float) -> None:
    """Send a message.

    Raises:
        BadInput: the server refuses it for good, or it cannot be sent at all.
        Transient: the server could not take it now.
    """
    server = settings()
    if server.smtp_host is None or server.mail_from is None:
        raise Transient(NOT_SET_UP)  # its operator may set it up again
    written = compose(server.mail_from, check(address), message)
    with _failures(server.smtp_host):
        _transmit(server, server.smtp_host, written, seconds)


def compose(sender: str, receiver: str, message: Message) -> EmailMessage:
    """The message as a mail.

    Raises:
        BadInput: a text in it would become a header.
    """
    written = EmailMessage(policy=_POLICY)
    written["From"], written["To"] = sender, receiver
    # Without encoded words of others, which the library would decode: a line end may hide in one.
    written["Subject"] = " ".join(message.subject.split()).replace("=?", "= ?")
    written["Date"] = format_datetime(now())
    written["Message-ID"] = f"<{message.id}@{sender.rpartition('@')[2]}>"
    written["Auto-Submitted"] = "auto-generated"  # RFC 3834: no automatic replies
    if message.unsubscribe is not None:
        written["List-Unsubscribe"] = f"<{message.unsubscribe}>"
        written["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"  # RFC 8058
    written.set_content(message.text)
    written.add_alternative(message.html, subtype="html")
    if BytesHeaderParser().parsebytes(bytes(written)).keys() != written.keys():
        raise BadInput("this cannot be made a mail: a text would become a header of its own")
    return written


def try_out(server: Settings, seconds: float) -> None:
    """See whether the mail server answers and lets us in. Sends nothing.

    Raises:
        Transient: it does not.
    """
    if server.smtp_host is not None:
        with _failures(server.smtp_host):
            _transmit(server, server.smtp_host, None, seconds)


def _transmit(server: Settings, host: str, written: EmailMessage | None, seconds: float) -> None:
    """Connect, sign in, and send the mail; None: send nothing."""
    client = _client(server, host, seconds)
    watch = Timer(seconds, _cut, (client,))  # each answer has its time limit; this one is for all of them
    watch.daemon = True
    watch.start()
    try:
        code, words = client.connect(host, server.smtp_port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, words)
        if server.smtp_security == "starttls":
            client.starttls(context=_tls())
        if server.smtp_user and server.smtp_password:
            client.login(server.smtp_user, server.smtp_password.get_secret_value())
        if written is not None:
            client.send_message(written)
        with suppress(smtplib.SMTPException, OSError):  # the server has the mail
            client.quit()
    finally:
        watch.cancel()
        client.close()


def _client(server: Settings, host: str, seconds: float) -> smtplib.SMTP:
    """A client that is not connected yet."""
    own_name = (server.mail_from or "").rpartition("@")[2]
    if server.smtp_security == "tls":
        made: smtplib.SMTP = smtplib.SMTP_SSL(local_hostname=own_name, timeout=seconds, context=_tls())
    else:
        made = smtplib.SMTP(local_hostname=own_name, timeout=seconds)
    made._host = host  # type: ignore[attr-defined]  # the name that TLS verifies; `connect` does not set it
    return made


def _cut(client: smtplib.SMTP) -> None:
    """End every wait for the server."""
    if client.sock is not None:
        with suppress(OSError):
            client.sock.shutdown(socket.SHUT_RDWR)


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


@contextmanager
def _failures(host: str) -> Iterator[None]:
    """Tell what is refused for good from what may work later.

    Raises:
        BadInput: this receiver or this mail is refused for good.
        Transient: anything else: what is wrong with the server, or the login there, its operator can put right.
    """
    try:
        yield
    except smtplib.SMTPRecipientsRefused as error:
        code, words = next(iter(error.recipients.values()))
        raise _refusal(host, "the receiver", code, words) from None
    except smtplib.SMTPDataError as error:
        raise _refusal(host, "the mail", error.smtp_code, error.smtp_error) from None
    except smtplib.SMTPResponseException as error:
        raise Transient(f"{host} cannot be used ({error.smtp_code}): {_words(error.smtp_error)}") from None
    except (smtplib.SMTPException, OSError) as error:
        raise Transient(f"{host} cannot be used: {_words(str(error)) or type(error).__name__}") from None


def _refusal(host: str, what: str, code: int, words: bytes | str) -> BadInput | Transient:
    told = f"{host} refuses {what} ({code}): {_words(words)}"
    return BadInput(told) if 500 <= code < 600 else Transient(told)


def _words(said: bytes | str) -> str:
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return " ".join(text.split())[:_MOST_SHOWN]
