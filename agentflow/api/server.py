"""Serves the API with waitress's event loop and threads, in worker processes that gunicorn supervises.

One loop reads every request whole before a thread sees it: a slow or silent client costs a connection, never a thread.
The loop also sends the replies, and reads the next request of a connection only when the client has received the
previous reply. Every step that depends on the client has a deadline: sending headers, sending the body, receiving the
reply. When connections run out, idle ones are closed first. A request that is refused before the application sees it
(too large, malformed, too late) gets a problem document; then the connection is closed without draining it.

Waiting requests (event streams, calls that wait for a block) have extra threads: see `places.py`. Streams that a live
process serves have none: the connection leaves the server, and is carried to that process (`relay.py`).
"""

import logging
import os
import resource
import socket
import time
from typing import Any, Final

from gunicorn.workers.base import Worker
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import BaseWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask
from waitress.utilities import Error

from agentflow.api.payloads import HOOKS, MAX_PAYLOAD
from agentflow.api.problems import refusal
from agentflow.api.relay import HAND_OVER, carry
from agentflow.settings import Settings, settings

MAX_CONNECTIONS: Final = 1000
"""Connections per process. When there are more, those without a request are closed to make room."""

MAX_FILES: Final = 8192
"""The limit of open files that the process sets, if allowed: sockets, and bodies and replies too long for memory."""

MAX_URL: Final = 16 * 1024
"""Bytes of a request's first line."""

MAX_HEADERS: Final = 64 * 1024
"""Bytes of a request's headers."""

MAX_CHUNK_LINES: Final = 8 * 1024
"""Bytes of a chunk's length line, and of the trailer after the last chunk."""

IDLE_SECONDS: Final = 75
"""How long a connection is kept after a reply: longer than load balancers keep it."""

READ_SECONDS: Final = 60
"""A client that receives nothing of its reply for this long is disconnected."""

HURRIED_SECONDS: Final = 1
"""The deadline for idle and incomplete requests while there are too many connections."""

LINGER_SECONDS: Final = 2
"""How long input after a refusal is discarded. Closing with unread bytes would send a reset, and the client might miss
its reply."""

_KEPT_IN_MEMORY = 128 * 1024  # bytes of a body; the rest goes to a temporary file
_REPLY_IN_MEMORY = 1024 * 1024


_TOO_LARGE = f"a payload has at most {MAX_PAYLOAD} bytes"


class _Refused(Error):  # type: ignore[misc]  # waitress has no types
    """A refusal by the server itself."""

    def __init__(self, code: int, body: str) -> None:
        super().__init__(body)
        self.code = code


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    completed: bool
    body_rcv: Any
    error: Any
    is_hook = False  # anybody may call it: its body is bounded more narrowly

    def received(self, data: bytes) -> int:
        read = int(super().received(data))
        if self.is_hook and not self.error and self.body_rcv is not None and len(self.body_rcv) > MAX_PAYLOAD:
            self.error, self.completed = _Refused(413, _TOO_LARGE), True
        if self.chunked and not self.completed and self._unfinished() > MAX_CHUNK_LINES:
            why = f"what stands between the chunks, or behind them, is longer than {MAX_CHUNK_LINES} bytes"
            self.error, self.completed = _Refused(431, why), True
        return read

    def _unfinished(self) -> int:
        """Bytes of an incomplete chunk line or trailer. Each is scanned from its start whenever more arrives."""
        return max(len(self.body_rcv.control_line), len(self.body_rcv.trailer))

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        if len(self.first_line) > MAX_URL:
            self._refuse(414, f"the address is longer than {MAX_URL} bytes")
        elif self.chunked and "CONTENT_LENGTH" in self.headers:
            # Prevents request smuggling: a proxy that uses the other header would split the requests differently.
            self._refuse(400, "a request has a Content-Length or a Transfer-Encoding, not both")
        elif self.version not in ("1.0", "1.1"):
            self._refuse(505, "HTTP/1.0 and HTTP/1.1 are spoken here")
        elif "," in self.headers.get("HOST", "") or (self.version == "1.1" and "HOST" not in self.headers):
            self._refuse(400, "a request has one Host")
        self.is_hook = self.path.startswith(HOOKS)
        if self.is_hook and self.content_length > MAX_PAYLOAD and self.error is None:
            self._refuse(413, _TOO_LARGE)

    def _refuse(self, code: int, why: str) -> None:
        self.error = _Refused(code, why)
        self.body_rcv = None  # stop reading


class _Refusal(ErrorTask):  # type: ignore[misc]
    """Answers with a problem document, and closes."""

    def execute(self) -> None:
        error = self.request.error
        limit = self.channel.adj.max_request_body_size - 1
        details = {
            413: f"the body is larger than {limit} bytes, the limit here",
            431: f"the headers are longer than {MAX_HEADERS} bytes",
            500: "Something went wrong; the log tells more.",
            501: "a body comes plain or chunked; no other transfer coding is known here",
        }
        # Never waitress's own texts: they quote the request, which may contain a key.
        detail = (
            error.body if isinstance(error, _Refused) else details.get(error.code, "this is not a request in HTTP/1.1")
        )
        reply = refusal(error.code, detail)
        self.status = reply.status
        body = reply.get_data()
        self.response_headers.extend((name, value) for name, value in reply.headers if name != "Content-Length")
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Task(WSGITask):  # type: ignore[misc]
    """Answers by the application, or hands the connection over to a live process."""

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        environ[HAND_OVER] = self._hand_over
        return environ

    def _hand_over(self, upstream: socket.socket, first: bytes) -> None:
        self.channel.handed_over = (upstream, first)

    def finish(self) -> None:
        if self.channel.handed_over is None:
            super().finish()


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection with deadlines."""

    request: _Parser | None
    requests: list[_Parser]
    connected: bool
    sent_continue: bool

    parser_class = _Parser
    task_class = _Task
    error_task_class = _Refusal
    has_left = False
    handed_over: tuple[socket.socket, bytes] | None = None  # the live process's socket, and what is sent to it first
    asked = False  # whether a complete request has arrived
    refused = False
    half_closed: float | None = None  # the time at which our side was closed
    _ahead = b""  # input after the request that is being served

    def __init__(self, server: "_Server", *args: Any, **more: Any) -> None:
        super().__init__(server, *args, **more)
        self.began = time.monotonic()  # when the request being read began to arrive, or the connection was made

    def received(self, data: bytes) -> bool:
        """Parse the input up to the end of one request. The rest waits until the client has received the reply.

        This prevents a client that pipelines requests without reading replies from using up threads and loop time.
        """
        self._ahead = b""
        with self.requests_lock:
            if not data or self.half_closed is not None or self.will_close or self.close_when_flushed:
                return False
            while data and not self.requests:
                data = data[self._parse(data) :]
            self._ahead = data
        return True

    def _parse(self, data: bytes) -> int:
        """Continue parsing the present request. Returns how many bytes belong to it."""
        if self.request is None:
            self.began = time.monotonic()
            self.request = self.parser_class(self.adj)
        request, read = self.request, int(self.request.received(data))
        if request.expect_continue and request.headers_finished and not self.sent_continue:
            self.send_continue()
        if request.completed:
            self.request, self.sent_continue, self.began = None, False, time.monotonic()
            if not request.empty:
                self.asked = True
                self.requests.append(request)
                self.server.add_task(self)
        return read

    def readable(self) -> bool:
        return bool(super().readable() and not self._ahead and self.handed_over is None)

    def writable(self) -> bool:
        return bool(super().writable() or self._can_continue() or self.handed_over is not None)

    def handle_write(self) -> None:
        if self.handed_over is not None and not self.will_close:
            if not self.requests:  # the task has ended
                self._leave()
            return
        super().handle_write()
        if self._can_continue():
            self.received(self._ahead)

    def _leave(self) -> None:
        """Let the connection be carried to the live process: it is no channel of this server any more."""
        assert self.handed_over is not None
        (upstream, first), client, ahead = self.handed_over, self.socket, self._ahead
        self.has_left = True  # whatever the loop may still find about it, its socket is another's now
        self.del_channel()
        self.connected = False
        for outbuf in self.outbufs:
            outbuf.close()
        carry(client, upstream, first + ahead)

    def _can_continue(self) -> bool:
        """Whether the input in `_ahead` may be parsed now."""
        return bool(self._ahead) and not self.requests and not self.total_outbufs_len

    def enforce_deadlines(self, hurried: bool) -> None:
        """Refuse slow requests; close idle connections, and those whose client does not receive its reply."""
        now, server = time.monotonic(), self.server
        if self.half_closed is not None:
            if now - self.half_closed > LINGER_SECONDS:
                self.handle_close()
        elif self.total_outbufs_len:
            if time.time() - self.last_activity > READ_SECONDS:
                self.handle_close()
        elif self.requests:
            self.began = now  # nothing is read while a request is served
        elif self.request is None:
            idle = now - max(self.began, now - (time.time() - self.last_activity))
            if idle > (HURRIED_SECONDS if hurried else IDLE_SECONDS if self.asked else server.limits.header_seconds):
                self.handle_close()
        elif hurried and now - self.began > HURRIED_SECONDS:
            self._refuse(503, "there are too many connections; try again in a moment")
        elif not self.request.headers_finished:
            if now - self.began > server.limits.header_seconds:
                self._refuse(408, f"the headers did not come within {server.limits.header_seconds:g} seconds")
        elif now - self.began > server.limits.body_seconds:
            self._refuse(408, f"the body did not come within {server.limits.body_seconds:g} seconds")

    def _refuse(self, code: int, why: str) -> None:
        with self.requests_lock:
            request, self.request = self.request, None
            assert request is not None
            request.error = _Refused(code, why)
            request.completed = True
            self.requests.append(request)
            self.server.add_task(self)

    def check_client_disconnected(self) -> bool:
        """Whether the client has disconnected. The loop does not read while a request is served, so this peeks."""
        if not self.connected:
            return True
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"")
        except BlockingIOError:
            return False
        except OSError:
            return True

    def service(self) -> None:
        self.refused = self.requests[0].error is not None
        super().service()

    def handle_close(self) -> None:
        """Close the connection; after a refusal, close our side first."""
        if self.has_left:
            return
        if self.handed_over is not None:
            self.handed_over[0].close()
        if self.refused and self.connected and self.half_closed is None:
            self.half_closed, self.will_close = time.monotonic(), False
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                super().handle_close()
        else:
            super().handle_close()

    def handle_read(self) -> None:
        super().handle_read()
        if self.half_closed is not None and not self.connected:
            super().handle_close()


class _Server(BaseWSGIServer):  # type: ignore[misc]
    """A listening socket."""

    channel_class = _Channel

    def __init__(self, application: Any, limits: Settings, **more: Any) -> None:
        self.limits = limits
        super().__init__(application, bind_socket=False, **more)

    def getsockname(self) -> tuple[str, int]:
        name = self.socket.getsockname()
        return (name[0], name[1]) if isinstance(name, tuple) else ("localhost", 0)

    def fix_addr(self, addr: Any) -> Any:
        return addr if isinstance(addr, tuple) else ("localhost", None)

    def set_socket_options(self, conn: socket.socket) -> None:
        if conn.family != socket.AF_UNIX:
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def maintenance(self, now: float) -> None:
        for channel in list(self.active_channels.values()):
            channel.enforce_deadlines(self.in_connection_overflow)


class WaitressWorker(Worker):  # type: ignore[misc]
    """A gunicorn worker process in which waitress serves."""

    alive: bool

    def run(self) -> None:
        """Serve until told to stop, then finish running requests."""
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        limits = settings()
        _allow_many_files()
        dispatcher = ThreadedTaskDispatcher()
        dispatcher.set_thread_count(limits.web_threads + limits.max_event_streams + limits.max_block_waits)
        channels: dict[int, Any] = {}
        adjustments = Adjustments(
            sockets=[listener.sock for listener in self.sockets],
            connection_limit=MAX_CONNECTIONS,
            cleanup_interval=1,
            max_request_header_size=MAX_HEADERS,
            max_request_body_size=limits.max_body_bytes + 1,  # waitress refuses this size and above
            inbuf_overflow=_KEPT_IN_MEMORY,
            outbuf_overflow=_REPLY_IN_MEMORY,
            # Behind a proxy that is to be believed, its headers must reach the application, which reads the last ones.
            clear_untrusted_proxy_headers=not limits.trusted_proxies,
            ident=None,
        )
        self._servers = [
            _Server(
                self.wsgi,
                limits,
                map=channels,
                _sock=listener,
                dispatcher=dispatcher,
                adj=adjustments,
                sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            )
            for listener in adjustments.sockets
        ]
        while self.alive:
            self._run_loop(channels)
            if self.ppid != os.getppid():
                self.alive = False
        for server in self._servers:
            server.accepting = False
        give_up_at = time.monotonic() + self.cfg.graceful_timeout
        while any(map(_busy, channels.values())) and time.monotonic() < give_up_at:
            self._run_loop(channels)
        dispatcher.shutdown(timeout=1)

    def _run_loop(self, channels: dict[int, Any]) -> None:
        self.notify()
        wasyncore.loop(timeout=1.0, use_poll=True, map=channels, count=1)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin the graceful shutdown, and wake the loop for it."""
        super().handle_exit(sig, frame)
        for server in getattr(self, "_servers", ()):
            server.pull_trigger()


def _busy(channel: Any) -> bool:
    """Whether a request is being served on it."""
    return isinstance(channel, _Channel) and bool(channel.requests or channel.total_outbufs_len)


def _allow_many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
