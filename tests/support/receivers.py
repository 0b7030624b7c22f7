"""Receivers of notifications on loopback: a webhook and a mail server, which fail, hang and refuse as they are told."""

import asyncio
import json
import socket
import ssl
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session


class Hook:
    """A webhook.

    Attributes:
        turns: called with the number of each request, from 0: the status that it gets; None: it hangs until `end`.
        got: what was taken (answered 2xx): headers and body.
        says: headers of its answers.
        asked: how many requests came.
    """

    def __init__(self) -> None:
        self.turns: Callable[[int], int | None] = lambda number: 204
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.says: dict[str, str] = {}
        self.asked = 0
        self.end = threading.Event()
        self.url = self.pair = ""
        self._lock = threading.Lock()

    def answer(self, headers: dict[str, str], body: bytes) -> int | None:
        with self._lock:
            status = self.turns(self.asked)
            self.asked += 1
            if status is not None and status < 300:
                self.got.append((headers, body))
        if status is None:
            self.end.wait(60)
        return status

    def bodies(self) -> list[Any]:
        return [json.loads(body) for _, body in self.got]

    def told(self) -> Counter[str]:
        """How often each notification was taken, alone or in a digest."""
        found: Counter[str] = Counter()
        for body in self.bodies():
            data = body["data"]
            found.update([one["id"] for one in data["notifications"]] if "notifications" in data else [data["id"]])
        return found


@contextmanager
def hook_running() -> Iterator[Hook]:
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status = hook.answer({name.lower(): value for name, value in self.headers.items()}, body)
            if status is not None:
                self.send_response(status)
                for name, value in {"content-length": "0", **hook.says}.items():
                    self.send_header(name, value)
                self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def handle(self) -> None:
            with suppress(OSError):  # who asked has gone
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hook.pair = f"127.0.0.1:{server.server_port}"
    hook.url = f"http://{hook.pair}/hook?token=secret-of-the-hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hook
    finally:
        hook.end.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Mailbox:
    """A mail server.

    Attributes:
        turns: called with the number of each mail, from 0: what it answers; None: it hangs until `end`.
        refuses: a receiver → what it is refused with.
        got: the mails that were taken.
    """

    def __init__(self) -> None:
        self.turns: Callable[[int], str | None] = lambda number: "250 OK"
        self.refuses: dict[str, str] = {}
        self.got: list[EmailMessage] = []
        self.asked = 0
        self.port = 0
        self.end = threading.Event()

    async def handle_RCPT(  # noqa: N802 as the library calls it
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refuses:
            return self.refuses[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 likewise
        said = self.turns(self.asked)
        self.asked += 1
        if said is None:
            await asyncio.to_thread(self.end.wait, 60)
        if said is not None and said.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.got.append(message_from_bytes(envelope.content, policy=policy.default))
        return said or "421 it ends"


LOGIN = "a secret of the mail server"


def _robot(server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any) -> AuthResult:
    return AuthResult(success=(given.login, given.password) == (b"robot", LOGIN.encode()), handled=False)


@contextmanager
def mailbox_running(secured: ssl.SSLContext | None = None, *, at_once: bool = False) -> Iterator[Mailbox]:
    """`secured`: it wants TLS, from the first byte (`at_once`) or by STARTTLS, and the login robot with `LOGIN`."""
    box, loop = Mailbox(), asyncio.new_event_loop()
    more: dict[str, Any] = {}
    if secured is not None:
        more = {"authenticator": _robot, "auth_required": True, "auth_require_tls": not at_once}
        more |= {} if at_once else {"tls_context": secured, "require_starttls": True}
    listening = socket.create_server(("127.0.0.1", 0))
    box.port = listening.getsockname()[1]

    def smtp() -> SMTP:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it does not see that all is TLS
            return SMTP(box, enable_SMTPUTF8=False, **more)

    made = loop.create_server(smtp, sock=listening, ssl=secured if at_once else None)
    server = loop.run_until_complete(made)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield box
    finally:
        box.end.set()

        async def close() -> None:
            server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0.05)

        asyncio.run_coroutine_threadsafe(close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    """A webhook that takes what comes."""
    with hook_running() as running:
        yield running


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """A mail server that takes what comes."""
    with mailbox_running() as running:
        yield running
