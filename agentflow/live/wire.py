"""Extends uvicorn's protocols by what readers need: to write what is encoded already, and to cut who takes nothing.

uvicorn lets an application send only by waiting until there is room, and one message at a time. Five thousand readers
of one event would be five thousand tasks; so a reader writes to its transport itself.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

from agentflow.live.messages import WORDS, Cut

GRACE_SECONDS: Final = 15.0
"""How long who is cut off may take to receive why."""

CONTROL_RATE: Final = 20.0
"""Control frames and parts of messages that a client may send a second. They are answered without asking anybody."""

CONTROL_BURST: Final = 200.0
"""So many may come at once; who sends more is cut off."""

_SENT_AHEAD: Final = 256 * 1024  # bytes that the kernel keeps for a client; its own choice may be megabytes


class WebSocketWire(WebSocketsSansIOProtocol):
    """The connection below a WebSocket; the application finds it in its scope's state, as `wire`."""

    on_room: Callable[[], object] | None = None
    scope: Any
    _left = CONTROL_BURST
    _counted_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if (connection := transport.get_extra_info("socket")) is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SENT_AHEAD)

    def handle_connect(self, event: Any) -> None:
        self.scope = None
        super().handle_connect(event)
        if self.scope is not None:  # its task has not run yet
            self.scope["state"]["wire"] = self

    def handle_ping(self) -> None:
        if not self._floods():
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        if not self._floods():
            super().handle_pong(event)

    def handle_cont(self, event: Frame) -> None:
        if not self._floods():
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:  # which uvicorn would log
                self.conn.send_close(CloseCode.INVALID_DATA)
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    def _floods(self) -> bool:
        """Count a frame that costs the application nothing. Cuts off who sends too many."""
        now = self.loop.time()
        self._left = min(self._left + (now - self._counted_at) * CONTROL_RATE, CONTROL_BURST) - 1
        self._counted_at = now
        if self._left < 0 and not self.close_sent:
            self.cut(Cut.MISUSED)
            self.transport.close()  # nothing more is read
        return self.close_sent

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.on_room is not None:
            self.on_room()

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be written now."""
        return not self.writable.is_set()

    def write(self, frames: bytes) -> None:
        """Send whole frames."""
        if not self.close_sent and not self.transport.is_closing():
            self.transport.write(frames)

    def cut(self, why: Cut) -> None:
        """Send the close code behind what was sent, and close, at the latest after `GRACE_SECONDS`."""
        if self.close_sent or self.transport.is_closing():
            return
        self.stop_keepalive()
        self.conn.send_close(why, WORDS[why])
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(GRACE_SECONDS, self.transport.abort)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": int(why), "reason": WORDS[why]})


class HttpWire(HttpToolsProtocol):
    """The connection below a request; the application finds it in its scope's state, as `wire`."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["wire"] = self

    def abort_soon(self) -> None:
        """Close, after `GRACE_SECONDS`, whether or not the client has received everything."""
        self.loop.call_later(GRACE_SECONDS, self.transport.abort)
