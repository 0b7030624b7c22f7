"""Serves `/ws`: one connection, many channels. See docs/live.md for the messages."""

import asyncio
import logging
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from agentflow.accounts.scopes import Scope
from agentflow.errors import AgentFlowError, Busy, Conflict, Malformed, NotFound, TooMany, Unauthenticated, Unavailable
from agentflow.live.callers import Credentials
from agentflow.live.channels import LONGEST_NAME
from agentflow.live.identification import key_in, session_in
from agentflow.live.messages import Cut, Parcel, frame, problem, text
from agentflow.live.process import Live
from agentflow.live.readers import Reader
from agentflow.live.wire import WebSocketWire
from agentflow.schemas.wording import worded

logger = logging.getLogger(__name__)

MAX_MESSAGE: Final = 4096
"""Bytes of a message from a client."""

MAX_MISTAKES: Final = 200
"""Refused messages after which a connection is closed."""

AUTHENTICATE_SECONDS: Final = 10.0
"""In which a client without key or session in its headers must send its key."""

MESSAGE_RATE: Final = 50.0
"""Messages a second that are taken from a connection; what comes faster waits."""

_BURST: Final = 200.0  # messages that are taken at once before that
_HEARTBEAT: Final = frame(text("heartbeat"))


class _Received(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Authenticate(_Received):
    type: Literal["authenticate"]
    key: str = Field(max_length=200)


class _Subscribe(_Received):
    type: Literal["subscribe"]
    channel: str = Field(max_length=LONGEST_NAME)
    after: str | None = Field(None, max_length=80)


class _Unsubscribe(_Received):
    type: Literal["unsubscribe"]
    channel: str = Field(max_length=LONGEST_NAME)


class _Ping(_Received):
    type: Literal["ping"]
    data: str | None = Field(None, max_length=100)


_Message = Annotated[_Authenticate | _Subscribe | _Unsubscribe | _Ping, Field(discriminator="type")]
_MESSAGES: Final[TypeAdapter[_Message]] = TypeAdapter(_Message)


class WebSocketReader(Reader):
    """A reader over a WebSocket."""

    def __init__(self, credentials: Credentials, wire: WebSocketWire, live: Live) -> None:
        super().__init__(credentials)
        self._wire = wire
        wire.on_room = lambda: live.hub.resume(self)

    @property
    def is_behind(self) -> bool:
        return self._wire.is_full

    def give(self, parcel: Parcel) -> None:
        self._wire.write(parcel.frames)

    def beat(self) -> None:
        self._wire.write(_HEARTBEAT)

    def cut(self, why: Cut) -> None:
        self.is_closed = True
        self._wire.cut(why)


async def serve(websocket: WebSocket) -> None:
    """One connection, from the handshake to its end."""
    live: Live = websocket.app.state.live
    wire: WebSocketWire = websocket.scope["state"]["wire"]
    await websocket.accept()  # before anything is refused: a browser learns nothing of a refused handshake
    try:
        live.callers.enter()
    except Busy:
        wire.cut(Cut.FULL)
        return
    try:
        if (credentials := await _credentials(websocket, live, wire)) is not None:
            await _serve(websocket, live, WebSocketReader(credentials, wire, live), wire)
    except WebSocketDisconnect:
        pass
    finally:
        wire.on_room = None
        live.callers.leave()


async def _credentials(websocket: WebSocket, live: Live, wire: WebSocketWire) -> Credentials | None:
    """Who has connected; None: it was cut off."""
    try:
        secret = key_in(websocket)
        is_key = secret is not None
        if secret is None:
            secret = session_in(websocket)
        if secret is None:
            secret, is_key = await _sent_key(websocket), True
        return await live.callers.identify(secret, is_key=is_key, scope=Scope.RUNS_READ)
    except Unavailable as error:
        wire.write(frame(text("error", data=problem(error))))
        wire.cut(Cut.FULL)
    except AgentFlowError as error:
        wire.write(frame(text("error", data=problem(error))))
        wire.cut(Cut.UNAUTHENTICATED if isinstance(error, Unauthenticated | Malformed) else Cut.FORBIDDEN)
    return None


async def _sent_key(websocket: WebSocket) -> str:
    try:
        async with asyncio.timeout(AUTHENTICATE_SECONDS):
            message = _parsed(await _next(websocket))
    except TimeoutError:
        raise Unauthenticated(f"no key came within {AUTHENTICATE_SECONDS:g} seconds") from None
    if not isinstance(message, _Authenticate):
        raise Unauthenticated('the first message must be {"type": "authenticate", "key": "af_…"}')
    return message.key


async def _serve(websocket: WebSocket, live: Live, reader: WebSocketReader, wire: WebSocketWire) -> None:
    try:
        live.callers.add(reader)
    except TooMany:
        wire.cut(Cut.TOO_MANY)
        return
    try:
        wire.write(frame(text("welcome")))
        await _converse(websocket, live, reader, wire)
    finally:
        reader.is_closed = True
        live.hub.leave(reader)
        live.callers.remove(reader)


async def _converse(websocket: WebSocket, live: Live, reader: WebSocketReader, wire: WebSocketWire) -> None:
    mistakes, pace = 0, _Pace()
    while not reader.is_closed:
        received = await _next(websocket)
        await pace.wait()
        channel = None
        try:
            message = _parsed(received)
            channel = getattr(message, "channel", None)
            await _act(message, live, reader, wire)
        except AgentFlowError as error:
            mistakes += 0 if isinstance(error, Unavailable) else 1
            wire.write(frame(text("error", channel, problem(error))))
            if mistakes >= MAX_MISTAKES:
                reader.cut(Cut.MISUSED)
                return


async def _act(message: Any, live: Live, reader: WebSocketReader, wire: WebSocketWire) -> None:
    match message:
        case _Subscribe():
            await _subscribe(message, live, reader, wire)
        case _Unsubscribe():
            if not live.hub.unsubscribe(reader, message.channel):
                raise NotFound(f"this connection does not watch {message.channel!r}")
            wire.write(frame(text("unsubscribed", message.channel)))
        case _Ping():
            wire.write(frame(text("pong", data=message.data)))
        case _:
            raise Conflict("this connection is authenticated already")


async def _subscribe(message: _Subscribe, live: Live, reader: WebSocketReader, wire: WebSocketWire) -> None:
    live.refuse_more(reader)  # before PostgreSQL is asked
    channel, place = await live.open(reader.credentials, message.channel, message.after)
    if reader.is_closed:
        return
    if reader.watches(channel):
        raise Conflict(f"this connection watches {channel.name!r} already")
    wire.write(frame(text("subscribed", channel.name, {"after": channel.id_of(place)})))
    live.hub.subscribe(reader, channel, place)


async def _next(websocket: WebSocket) -> str | bytes:
    received = await websocket.receive()
    if received["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(received.get("code") or 1005)
    given = received.get("text")
    return given if given is not None else received.get("bytes") or b""


def _parsed(received: str | bytes) -> Any:
    """A message of a client.

    Raises:
        Malformed: it is none.
    """
    if isinstance(received, bytes):
        raise Malformed("messages are texts, and this one is binary")
    try:
        return _MESSAGES.validate_json(received)
    except ValidationError as error:
        raise Malformed(worded(error)[0]) from None


class _Pace:
    """Slows a client down that sends faster than `MESSAGE_RATE`."""

    def __init__(self) -> None:
        self._left = _BURST
        self._at = asyncio.get_running_loop().time()

    async def wait(self) -> None:
        """Wait until another message may be taken."""
        now = asyncio.get_running_loop().time()
        self._left = min(self._left + (now - self._at) * MESSAGE_RATE, _BURST) - 1
        self._at = now
        if self._left < 0:
            await asyncio.sleep(-self._left / MESSAGE_RATE)
