"""Serves a small HTTP site on this machine for the demo's graphs.

    /feed.json                    a feed that lists the pages, one of which does not exist
    /pages/<n>.json               a page; earlier pages are slower, so that their order must be restored
    /customers/<name>.json        a customer's discount
    /broken/…                     closes the connection without a reply, as a broken service does

It listens on loopback, on a free port, and stops when its context ends.
"""

import json
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self

SLOWEST_SECONDS: Final = 1.2
"""How long the first page of the feed takes; each further page is a little faster."""

GONE: Final = 7
"""The number of the page that the feed lists but that does not exist."""

PAGES: Final[list[dict[str, str]]] = json.loads(Path(__file__).with_name("demo_pages.json").read_text("utf-8"))
"""The pages of the feed, in its order."""

CUSTOMERS: Final = {"ada": 10, "grace": 25}
"""Known customers, and their discount in per cent."""


class DemoSite:
    """The running site. A context manager.

    Attributes:
        authority: host:port, as AGENTFLOW_HTTP_ALLOW takes it.
        url: the site's address, without a slash at its end.
    """

    def __init__(self, *, slowest: float = SLOWEST_SECONDS) -> None:
        """
        Args:
            slowest: seconds of the slowest page.
        """
        self._server = _Server(slowest)
        self.authority = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.authority}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="demo site", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a slow request must not delay the end

    def __init__(self, slowest: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.slowest = slowest

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnected."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        kind, _, name = self.path.strip("/").partition("/")
        name = name.removesuffix(".json")
        if kind == "broken":
            self.close_connection = True
        elif self.path == "/feed.json":
            self._answer(HTTPStatus.OK, {"title": "Small things, explained", "items": self._items()})
        elif kind == "pages" and name.isdecimal() and 0 < int(name) <= len(PAGES):
            self._page(int(name))
        elif kind == "customers" and name in CUSTOMERS:
            self._answer(HTTPStatus.OK, {"customer": name, "discount": CUSTOMERS[name]})
        else:
            self._answer(HTTPStatus.NOT_FOUND, {"error": f"there is no {self.path} here"})

    def _items(self) -> list[dict[str, Any]]:
        host = f"127.0.0.1:{self.server.server_address[1]}"
        return [{"id": number, "url": f"http://{host}/pages/{number}.json"} for number in range(1, len(PAGES) + 1)]

    def _page(self, number: int) -> None:
        time.sleep(self.server.slowest * (1 - (number - 1) / len(PAGES)))
        if number == GONE:
            self._answer(HTTPStatus.NOT_FOUND, {"error": "this page has gone"})
        else:
            self._answer(HTTPStatus.OK, PAGES[number - 1])

    def _answer(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing between the demo's own lines."""
