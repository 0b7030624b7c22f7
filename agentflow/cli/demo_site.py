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
from types import TracebackType
from typing import Any, Final, Self

SLOWEST_SECONDS: Final = 1.2
"""How long the first page of the feed takes; each further page is a little faster."""

GONE: Final = 7
"""The number of the page that the feed lists but that does not exist."""

PAGES: Final[tuple[dict[str, str], ...]] = (
    {
        "title": "Why the tide comes late",
        "author": "M. Okafor",
        "text": "The Moon returns to the same place in the sky fifty minutes later each day, and the tide follows it.",
    },
    {
        "title": "A loaf that needs no kneading",
        "author": "R. Lindqvist",
        "text": "Mix flour, water, salt and very little yeast in the evening. Time does the work that hands would do.",
    },
    {
        "title": "Reading a contour map",
        "author": "T. Aldana",
        "text": "Where the lines crowd together the slope is steep. Where they form a V, it points up the valley.",
    },
    {
        "title": "The shortest queue is not the fastest",
        "author": "P. Haruki",
        "text": "One long queue for all counters is fairer, and nobody waits behind a single slow customer.",
    },
    {
        "title": "How to sharpen a pencil with a knife",
        "author": "E. Novak",
        "text": "Push the blade with the thumb of the hand that holds the pencil. Turn a little, and push again.",
    },
    {
        "title": "What bees see",
        "author": "S. Bianchi",
        "text": "Bees see no red, but they see ultraviolet, and many flowers that look plain to us have marks in it.",
    },
    {
        "title": "A page that has gone",
        "author": "nobody",
        "text": "",
    },
    {
        "title": "Counting birds without counting them",
        "author": "A. Mensah",
        "text": "Catch fifty, ring them, let them go. The share of rings in the next catch tells how many there are.",
    },
    {
        "title": "The library that lends tools",
        "author": "J. Ferreira",
        "text": "A drill runs for some minutes in its whole life. In our street one of them serves forty houses.",
    },
    {
        "title": "Letters to the sea",
        "author": "K. Sato",
        "text": "Of the bottles that we threw in from the pier in spring, three were answered, one of them in verse.",
    },
    {
        "title": "Sleeping in a moving train",
        "author": "D. Osei",
        "text": "Choose a place in the middle of the coach, away from the wheels, with your feet towards the engine.",
    },
    {
        "title": "The sound of a good tile",
        "author": "L. Marchetti",
        "text": "Knock. A sound tile rings. A cracked one answers with a short dry word and should go back.",
    },
)
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
