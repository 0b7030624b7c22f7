"""Serves `/events`: one channel, as server-sent events; and the older stream of a run, `/api/v1/runs/{id}/events`.

Both go on after `Last-Event-ID`, and answer 204 if nothing will come any more, so that a browser does not ask again.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Send
from starlette.types import Scope as Scope_

from agentflow.accounts.scopes import Scope
from agentflow.errors import AgentFlowError, Malformed, Unauthenticated
from agentflow.live.callers import Credentials
from agentflow.live.identification import key_in, session_in
from agentflow.live.messages import WORDS, Cut, Parcel, problem, text
from agentflow.live.process import Live
from agentflow.live.readers import Reader
from agentflow.live.wire import HttpWire
from agentflow.schemas.problems import MEDIA_TYPE

logger = logging.getLogger(__name__)

RETRY_MILLISECONDS: Final = 1000
"""How long a client should wait before it connects again."""

_AHEAD: Final = 4  # parcels that wait to be sent
_HEADERS: Final = {
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",  # nginx must forward each event at once
    "X-Content-Type-Options": "nosniff",
}
_TAKEN: Final = frozenset({"channel", "after"})


class StreamReader(Reader):
    """A reader of a stream of server-sent events.

    Args:
        credentials: by which it was let in.
        wire: its connection.
        live: this process.
        bare: give events of a run as the older stream does.
    """

    def __init__(self, credentials: Credentials, wire: HttpWire, live: Live, *, bare: bool) -> None:
        super().__init__(credentials)
        self._wire = wire
        self._live = live
        self._bare = bare
        self._waiting: deque[bytes] = deque()
        self._came = asyncio.Event()

    @property
    def is_behind(self) -> bool:
        return len(self._waiting) >= _AHEAD

    def give(self, parcel: Parcel) -> None:
        self._put(parcel.run_events if self._bare else parcel.blocks)
        if parcel.over is not None:
            self.is_closed = True

    def beat(self) -> None:
        self._put(b": still here\n\n" if self._bare else _block(text("heartbeat")))

    def cut(self, why: Cut) -> None:
        self.is_closed = True
        if not self._bare:
            told = {"code": int(why), "detail": WORDS[why]}
            self._waiting.append(_block(text("closed", data=told)))
        self._came.set()
        self._wire.abort_soon()

    async def blocks(self) -> AsyncIterator[bytes]:
        """What is to be sent, as it comes, until the end."""
        yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
        while True:
            while self._waiting:
                was_behind = self.is_behind
                block = self._waiting.popleft()
                if was_behind:
                    self._live.hub.resume(self)
                if block:
                    yield block
                self.moved()
            if self.is_closed:
                return
            self._came.clear()
            await self._came.wait()

    def _put(self, block: bytes) -> None:
        self._waiting.append(block)
        self._came.set()


async def stream(request: Request) -> Response:
    """A channel, from now on, or after `Last-Event-ID`."""
    try:
        unknown = request.query_params.keys() - _TAKEN
        if unknown:
            raise Malformed(f"{min(unknown)}: there is no such field")
        channel = request.query_params.get("channel")
        if not channel:
            raise Malformed("channel: name what to watch: run:<id>, graph:<id>, runs or notifications")
        return await _stream(request, channel, bare=False)
    except AgentFlowError as error:
        return _refused(error)


async def stream_run(request: Request) -> Response:
    """The events of a run, as they were streamed before there were channels."""
    try:
        return await _stream(request, f"run:{request.path_params['run_id']}", bare=True)
    except AgentFlowError as error:
        return _refused(error)


async def _stream(request: Request, name: str, *, bare: bool) -> Response:
    live: Live = request.app.state.live
    live.callers.enter()
    try:
        response = await _entered(request, live, name, bare)
    except BaseException:
        live.callers.leave()
        raise
    if not isinstance(response, _Stream):
        live.callers.leave()
    return response


async def _entered(request: Request, live: Live, name: str, bare: bool) -> Response:
    key = key_in(request)
    secret = key if key is not None else session_in(request)
    if secret is None:
        raise Unauthenticated
    credentials = await live.callers.identify(secret, is_key=key is not None, scope=Scope.RUNS_READ)
    after = request.headers.get("last-event-id") or request.query_params.get("after")
    channel, place = await live.open(credentials, name, after)
    if after and await live.is_over(channel, place):
        return Response(status_code=204)
    reader = StreamReader(credentials, request.scope["state"]["wire"], live, bare=bare)
    live.callers.add(reader)
    if not bare:
        reader._put(_block(text("subscribed", channel.name, {"after": channel.id_of(place)})))
    live.hub.subscribe(reader, channel, place)
    return _Stream(reader, live)


class _Stream(StreamingResponse):
    """The stream of a reader, who is forgotten at its end, however it ends."""

    def __init__(self, reader: StreamReader, live: Live) -> None:
        super().__init__(reader.blocks(), media_type="text/event-stream", headers=_HEADERS)
        self._reader = reader
        self._live = live

    async def __call__(self, scope: Scope_, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._reader.is_closed = True
            self._live.hub.leave(self._reader)
            self._live.callers.remove(self._reader)
            self._live.callers.leave()


def _block(message: str) -> bytes:
    return f"data: {message}\n\n".encode()


def _refused(error: AgentFlowError) -> Response:
    """The problem document that the API would answer with."""
    document = problem(error)
    status = document["status"]
    if status >= 500 and status != 503:
        logger.error("stream_refused", exc_info=error)
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if status in (429, 503):
        headers["Retry-After"] = "1"
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(json.dumps(document), status, headers, MEDIA_TYPE)
