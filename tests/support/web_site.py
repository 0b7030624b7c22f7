"""A real HTTP server on loopback, which web blocks may reach only where a test allows its port."""

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest


@dataclass
class Seen:
    """One request, as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Site:
    """The server: where it is, and what it was asked."""

    port: int
    seen: list[Seen] = field(default_factory=list)
    leave: Event = field(default_factory=Event)

    @property
    def pair(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str = "/") -> str:
        return f"http://{self.pair}{path}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    site: Site


class _Handler(BaseHTTPRequestHandler):
    """`/echo` tells what it got; `/status/N`, `/to?url=&status=`, `/encoded/E`, ... are named for what they do."""

    server: _Server
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.site.seen.append(Seen(self.command, self.path, headers, body))
        path = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(path.query, keep_blank_values=True).items()}
        name, _, rest = path.path.lstrip("/").partition("/")
        getattr(self, f"_{name}", self._echo)(rest, query, body)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_HEAD = _serve  # noqa: N815 as in the parent

    def _reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content_length": str(len(body)), "connection": "close", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = True

    def _json(self, value: Any, status: int = 200, **headers: str) -> None:
        self._reply(status, json.dumps(value).encode(), content_type="application/json", **headers)

    def _echo(self, rest: str, query: dict[str, str], body: bytes) -> None:
        seen = self.server.site.seen[-1]
        self._json({"method": seen.method, "headers": seen.headers, "body": body.decode("latin-1")})

    def _status(self, rest: str, query: dict[str, str], body: bytes) -> None:
        self._json({"status": int(rest)}, int(rest))

    def _busy(self, rest: str, query: dict[str, str], body: bytes) -> None:
        self._reply(int(rest), b"not now", retry_after=query["after"])

    def _to(self, rest: str, query: dict[str, str], body: bytes) -> None:
        self._reply(int(query.get("status", 302)), b"elsewhere", location=query["url"], set_cookie="hop=1; Path=/")

    def _loop(self, rest: str, query: dict[str, str], body: bytes) -> None:
        self._reply(302, b"", location=self.path)

    def _as(self, rest: str, query: dict[str, str], body: bytes) -> None:
        self._reply(200, query["body"].encode(query.get("charset", "utf-8")), content_type=query["type"])

    def _zeros(self, rest: str, query: dict[str, str], body: bytes) -> None:
        """That many zeros, in chunks, so that no length is told."""
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        size = int(rest)
        while size > 0:
            part = b"0" * min(size, 1000)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            size -= len(part)
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def _encoded(self, rest: str, query: dict[str, str], body: bytes) -> None:
        plain = b"0" * int(query.get("size", 1000))
        packers = {"gzip": gzip.compress, "deflate": zlib.compress, "br": bytes, "identity": bytes}
        packed = packers[rest](plain)
        if rest == "deflate" and "raw" in query:
            packed = packed[2:-4]
        if "cut" in query:
            packed = packed[: len(packed) // 2]
        self._reply(200, packed, content_encoding=rest, content_type="text/plain")

    def _hang(self, rest: str, query: dict[str, str], body: bytes) -> None:
        """Sends a byte now and then, and never ends by itself."""
        self.send_response(200)
        self.send_header("content-length", "1000000")
        self.end_headers()
        while not self.server.site.leave.wait(0.02):
            self.wfile.write(b".")

    def _break(self, rest: str, query: dict[str, str], body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", "1000")
        self.end_headers()
        self.wfile.write(b"half")
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""

    def handle(self) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # the client gave up, as some tests want
            super().handle()


def _running() -> Iterator[Site]:
    server = _Server(("127.0.0.1", 0), _Handler)
    site = server.site = Site(server.server_address[1])
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.leave.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


site = pytest.fixture(_running, name="site")
other_site = pytest.fixture(_running, name="other_site")
