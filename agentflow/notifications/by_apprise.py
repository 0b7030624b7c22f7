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
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

from agentflow.clock import monotonic
from agentflow.errors import BadInput, Transient
from agentflow.extras import install_command
from agentflow.net.connecting import addresses_of
from agentflow.notifications.message import Message

_HOSTED: Final = frozenset({
    "ntfys", "gotifys", "matrixs", "mmosts", "rockets", "nctalks", "synologys", "mastodons",
})  # fmt: skip
"""Services whose server a user names: with TLS only."""

SERVICES: Final = frozenset({
    "discord", "slack", "tgram", "gchat", "wxteams", "webex", "guilded", "revolt", "groupme", "line", "zulip", "twist",
    "flock", "ryver", "zcliq", "cliq", "dingtalk", "feishu", "lark",
    "pover", "pbul", "prowl", "join", "simplepush", "spush", "onesignal", "pushy", "ifttt", "signl4",
    "pagerduty", "opsgenie", "pagertree", "splunk", "victorops", "squadcast", "ilert", "spike", "incidentio",
    "twilio", "nexmo", "vonage", "msgbird", "plivo", "sinch", "bulksms", "clickatell", "clicksend", "threema",
    "sendgrid", "postmark", "mailgun", "brevo", "resend", "sparkpost",
}) | _HOSTED  # fmt: skip
"""What an address may begin with."""

_FORBIDDEN: Final = ("file", "template", "tmpl", "attach", "path", "verify", "redirect", "rto", "cto", "config", "key=")
"""Parts of names of parameters that are refused."""

_SECONDS: Final = (5.0, 10.0)
"""To connect, and to wait for each part of an answer; at most the time that sending may take at all. After that time no
connection is made any more."""


def check(url: str) -> str:
    """What an address begins with, if messages can be sent there. Looks its server up, where it names one.

    Raises:
        BadInput: it may not be used, or is incomplete; or its server is not public.
        Transient: its server could not be resolved now.
    """
    service = _service_of(url)
    _made(url, 1.0)
    parts = _parts(url)
    host = parts.hostname or ""
    if service in _HOSTED and ("." in host or ":" in host or host == "localhost"):  # else it is a topic's name
        addresses_of(host, parts.port or 443)
    return service


def send(url: str, message: Message, seconds: float) -> None:
    """Send a message.

    Raises:
        BadInput: the address may not be used.
        Transient: the service did not take the message; it may later.
    """
    service = _service_of(url)
    made = _made(url, seconds)
    with _guarded(seconds) as refused:
        try:
            took = made.notify(body=message.text, title=message.subject, body_format="text")
        except Transient:
            raise
        except Exception as error:  # whatever a plugin of the library raises
            raise Transient(f"{service} failed: {type(error).__name__}") from None
    if refused:
        raise refused[0]
    if not took:
        raise Transient(f"{service} did not take it")


def _service_of(url: str) -> str:
    """What an address begins with, if nothing in it is forbidden."""
    parts = _parts(url)
    if parts.scheme not in SERVICES:
        raise BadInput(f"the service {parts.scheme[:40]!r} cannot be used: one of {', '.join(sorted(SERVICES))} can")
    for name in _parameters(url):
        if name[:1] in "+-:" or any(part in name.lower() for part in _FORBIDDEN):
            raise BadInput(f"the parameter {name[:40]!r} may not be given")
    return str(parts.scheme)


def _parts(url: str) -> Any:
    try:
        if not url.isprintable() or " " in url:
            raise ValueError
        parts = urlsplit(url)
        _ = parts.port  # which may be none
        return parts._replace(scheme=parts.scheme.lower())
    except ValueError:
        raise BadInput("this is no address of apprise, as discord://id/token") from None


def _parameters(url: str) -> Iterator[str]:
    """The names of all parameters in an address, as apprise reads them: also behind `#`, and parted by `;`."""
    found: dict[str, Any] = _library().URLBase.parse_url(url) or {}
    for kind, given in found.items():
        if kind.startswith("qsd"):
            yield from (name if kind == "qsd" else kind[3:] + name for name in given)


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


@dataclass(frozen=True, slots=True)
class _Sending:
    """What a thread sends: until when it may connect (`clock.monotonic`), and why connections were refused."""

    until: float
    refused: list[BadInput] = field(default_factory=list)


class _Thread(threading.local):
    sending: _Sending | None = None


_thread: Final = _Thread()


@contextmanager
def _guarded(seconds: float) -> Iterator[list[BadInput]]:
    """Let `requests` connect to checked addresses only, in this thread and for so long. Gives what was refused.

    An address may have many receivers, which the library asks one after the other, each by a connection of its own.
    """
    _guard_connections()
    _thread.sending = _Sending(monotonic() + seconds)
    try:
        yield _thread.sending.refused
    finally:
        _thread.sending = None


@cache
def _guard_connections() -> None:
    """Put the guard into the library below `requests`, which the whole process shares."""
    from urllib3.util import connection

    plain = connection.create_connection

    def connect(address: tuple[str, int], timeout: Any = None, *more: Any, **options: Any) -> socket.socket:
        if _thread.sending is None:
            return plain(address, timeout, *more, **options)
        return _connected(_thread.sending, address, timeout if isinstance(timeout, int | float) else _SECONDS[0])

    connection.create_connection = connect


def _connected(sending: _Sending, address: tuple[str, int], timeout: float) -> socket.socket:
    host, port = address
    if monotonic() > sending.until:
        raise Transient("it took too long to reach all receivers")  # no OSError: a plugin would go on with the next
    try:
        found = addresses_of(host.strip("[]"), port)
    except BadInput as error:
        sending.refused.append(error)
        raise OSError(error.message) from None
    except Transient as error:
        raise OSError(error.message) from None
    last: OSError | None = None
    for one in found:
        try:
            return socket.create_connection((one, port), timeout)
        except OSError as error:
            last = error
    raise last or OSError(f"{host} has no address")
