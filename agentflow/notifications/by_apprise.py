"""Sends messages to chats and push services, through the library apprise (the extra `notifications`).

Its addresses are secrets: they hold tokens. Only services are allowed whose requests go out through `requests`: while
one sends, every connection passes the guard of addresses, also of a server that a user names, and of a redirect.
Parameters that would read files of this host, lift its time limits or its checks of certificates are refused.
"""

import logging
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from agentflow.errors import BadInput, Transient
from agentflow.extras import install_command
from agentflow.net.connecting import addresses_of
from agentflow.notifications.message import Message

SERVICES: Final = frozenset({
    "discord", "slack", "tgram", "gchat", "wxteams", "webex", "guilded", "revolt", "groupme", "line", "zulip", "twist",
    "flock", "ryver", "zcliq", "cliq", "dingtalk", "feishu", "lark",
    "pover", "pbul", "prowl", "join", "simplepush", "spush", "onesignal", "pushy", "ifttt", "signl4",
    "pagerduty", "opsgenie", "pagertree", "splunk", "victorops", "squadcast", "ilert", "spike", "incidentio",
    "twilio", "nexmo", "vonage", "msgbird", "plivo", "sinch", "bulksms", "clickatell", "clicksend", "threema",
    "sendgrid", "postmark", "mailgun", "brevo", "resend", "sparkpost",
    "ntfy", "ntfys", "gotifys", "matrixs", "mmosts", "rockets", "nctalks", "synologys", "mastodons",
})  # fmt: skip
"""What an address may begin with. Those whose server a user names are here with TLS only."""

_FORBIDDEN: Final = ("file", "template", "tmpl", "attach", "path", "verify", "redirect", "rto", "cto", "config", "key=")
"""Parts of names of parameters that are refused."""

_SECONDS: Final = (5.0, 10.0)
"""To connect, and to wait for each part of an answer; at most the time that sending may take at all."""


def service_of(url: str) -> str:
    """What an address begins with, if messages may be sent there.

    Raises:
        BadInput: it may not be used, or is incomplete.
    """
    parts = _parts(url)
    if parts.scheme not in SERVICES:
        raise BadInput(f"the service {parts.scheme[:40]!r} cannot be used: one of {', '.join(sorted(SERVICES))} can")
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if name[:1] in "+-:" or any(part in name.lower() for part in _FORBIDDEN):
            raise BadInput(f"the parameter {name[:40]!r} may not be given")
    _made(url, 1.0)
    return str(parts.scheme)


def send(url: str, message: Message, seconds: float) -> None:
    """Send a message.

    Raises:
        BadInput: the address may not be used.
        Transient: the service did not take the message; it may later.
    """
    service = service_of(url)
    made = _made(url, seconds)
    with _guarded() as refused:
        try:
            took = made.notify(body=message.text, title=message.subject, body_format="text")
        except Exception as error:  # whatever a plugin of the library raises
            raise Transient(f"{service} failed: {type(error).__name__}") from None
    if refused:
        raise BadInput(refused[0])
    if not took:
        raise Transient(f"{service} did not take it")


def _parts(url: str) -> Any:
    try:
        if not url.isprintable() or " " in url:
            raise ValueError
        parts = urlsplit(url)
        return parts._replace(scheme=parts.scheme.lower())
    except ValueError:
        raise BadInput("this is no address of apprise, as discord://id/token") from None


def _made(url: str, seconds: float) -> Any:
    """The plugin for an address."""
    library = _library()
    made = library.Apprise.instantiate(url, asset=library.AppriseAsset(), suppress_exceptions=True)
    if made is None:
        raise BadInput("apprise cannot use this address: something in it is missing or wrong")
    made.socket_connect_timeout, made.socket_read_timeout = (min(each, seconds) for each in _SECONDS)
    made.verify_certificate = True
    return made


@cache
def _library() -> Any:
    """It takes 0.7 s and 45 MB to load, which only processes pay that use it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of what it imports
            import apprise

            logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it logs addresses, which are secrets
            apprise.Apprise.instantiate("discord://", suppress_exceptions=True)  # loads the plugins
    except ImportError:
        raise BadInput(f"apprise is not installed here: {install_command('notifications', for_users=True)}") from None
    return apprise


_turn = threading.Lock()
"""One at a time: the guard is put into a library that the whole process shares."""


@contextmanager
def _guarded() -> Iterator[list[str]]:
    """Let `requests` connect to checked addresses only. Gives why connections were refused."""
    from urllib3.util import connection

    refused: list[str] = []

    def connect(address: tuple[str, int], timeout: Any = None, *_: Any, **__: Any) -> socket.socket:
        host, port = address
        try:
            found = addresses_of(host.strip("[]"), port)
        except BadInput as error:
            refused.append(error.message)
            raise OSError(error.message) from None
        except Transient as error:
            raise OSError(error.message) from None
        last: OSError | None = None
        for one in found:
            try:
                return socket.create_connection((one, port), timeout if isinstance(timeout, int | float) else 10.0)
            except OSError as error:
                last = error
        raise last or OSError(f"{host} has no address")

    with _turn:
        before = connection.create_connection
        connection.create_connection = connect
        try:
            yield refused
        finally:
            connection.create_connection = before
