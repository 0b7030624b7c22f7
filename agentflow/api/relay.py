"""Passes streams on to a live process: the client keeps its address and its connection, and no thread waits.

A view calls `pass_on`. It connects to the live process (`AGENTFLOW_LIVE_URL`) and has the server hand over the client's
socket; from then on one thread of this process, with an event loop, carries bytes between the two, as a proxy would.
So a stream costs two sockets, and as many are possible as there are files. Where there is no live process, or it does
not answer, the view goes on by itself.

A redirect would be less work, but many clients follow none, and those that do drop the key: another port is another
origin.
"""

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from flask import Blueprint, Response, request

from agentflow import forking
from agentflow.api.places import closing
from agentflow.clock import monotonic
from agentflow.errors import Busy
from agentflow.logs import log_outage
from agentflow.settings import settings

logger = logging.getLogger(__name__)

HAND_OVER: Final = "agentflow.hand_over"
"""The function in a request's environment that takes the live process's socket, and what to send to it first."""

MAX_CARRIED: Final = 3000
"""Streams that one process passes on; two files each."""

_CONNECT_SECONDS: Final = 1.0
_AWAY_SECONDS: Final = 1.0  # without another try after one that failed
_PIECE: Final = 64 * 1024  # bytes that are carried at once
_NEEDED: Final = (
    "Host", "Authorization", "X-API-Key", "Cookie", "Origin", "Accept", "User-Agent", "Last-Event-ID",
    "X-Forwarded-For", "X-Forwarded-Proto", "X-Request-Id",
)  # fmt: skip
_OF_WEBSOCKETS: Final = (
    "Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions",
)  # fmt: skip

streams = Blueprint("streams", __name__)


@streams.get("/ws", websocket=True)
@streams.get("/events")
@streams.get("/watch/<run_id>")
@streams.get("/watch.js")
@streams.get("/watch.css")
def live(run_id: str | None = None) -> Response:
    """What a live process serves, at this address, too. It identifies the caller itself."""
    passed = pass_on()
    if passed is None:
        raise Busy("no live process answers now; try again in a moment")
    return passed


def pass_on() -> Response | None:
    """Have the live process answer the present request; what is returned is not sent. None: there is none."""
    hand_over: Callable[[socket.socket, bytes], bool] | None = request.environ.get(HAND_OVER)
    if hand_over is None or request.method != "GET" or settings().live_url is None or not _carrier.has_room:
        return None
    upstream = _connect(settings().live_url or "")
    if upstream is None:
        return None
    hand_over(upstream, _head())
    return Response()


def carry(client: socket.socket, upstream: socket.socket, first: bytes) -> None:
    """Carry bytes between the two until one of them ends. `first`: what is sent upstream before."""
    _carrier.carry(client, upstream, first)


def _head() -> bytes:
    is_websocket = request.headers.get("Upgrade", "").lower() == "websocket"
    names = _NEEDED + (_OF_WEBSOCKETS if is_websocket else ())
    lines = [f"GET {request.environ['REQUEST_URI']} {request.environ['SERVER_PROTOCOL']}"]
    lines += [f"{name}: {request.headers[name]}" for name in names if name in request.headers]
    lines.append(f"Connection: {'Upgrade' if is_websocket else 'close'}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


_away_until = 0.0


def _connect(url: str) -> socket.socket | None:
    global _away_until
    if monotonic() < _away_until:
        return None
    parts = urlsplit(url)
    try:
        return socket.create_connection((parts.hostname or "", parts.port or 80), _CONNECT_SECONDS)
    except OSError as error:
        log_outage(logger, "live_not_reached", error)
        _away_until = monotonic() + _AWAY_SECONDS
        return None


class _Carrier:
    """The thread that carries, begun at first use, and its event loop."""

    def __init__(self) -> None:
        self._lock = forking.lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._carried: set[asyncio.Task[None]] = set()

    @property
    def has_room(self) -> bool:
        """Whether one more stream can be carried."""
        return len(self._carried) < MAX_CARRIED

    def carry(self, client: socket.socket, upstream: socket.socket, first: bytes) -> None:
        """Begin to carry; from any thread."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._work, name="streams passed on", daemon=True).start()
        self._loop.call_soon_threadsafe(self._begin, client, upstream, first)

    def _begin(self, client: socket.socket, upstream: socket.socket, first: bytes) -> None:
        assert self._loop is not None
        task = self._loop.create_task(_both_ways(client, upstream, first))
        self._carried.add(task)
        task.add_done_callback(self._carried.discard)

    def _work(self) -> None:
        assert self._loop is not None
        self._loop.create_task(self._end_when_closing())
        self._loop.run_forever()

    async def _end_when_closing(self) -> None:
        """Let go of the streams when the process is told to stop: clients connect again elsewhere."""
        while not closing.is_set():  # noqa: ASYNC110 - it is a thread's event, set by a signal
            await asyncio.sleep(0.2)
        for task in list(self._carried):
            task.cancel()


_carrier = _Carrier()


async def _both_ways(client: socket.socket, upstream: socket.socket, first: bytes) -> None:
    for one in (client, upstream):
        one.setblocking(False)
    from_client, to_client = await asyncio.open_connection(sock=client, limit=_PIECE)
    from_live, to_live = await asyncio.open_connection(sock=upstream, limit=_PIECE)
    to_live.write(first)
    ways: list[Awaitable[None]] = [_one_way(from_client, to_live), _one_way(from_live, to_client)]
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        for writer in (to_client, to_live):
            writer.close()
        for writer in (to_client, to_live):
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _one_way(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await source.read(_PIECE):
            sink.write(piece)
            await sink.drain()
