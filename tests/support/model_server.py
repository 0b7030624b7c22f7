"""A server that speaks what language models' endpoints speak, on loopback, and answers what it is told to.

OpenAI's chat completions and Anthropic's messages, at once or as a stream, with tools and usage, and their failures:
busy, broken, malformed, cut off, silent. A test queues replies (`server.replies.append(...)`); where none is queued,
`reply_by_model` chooses one by the model's name, so that graphs can choose as well: `echo` says the last message
again, `say:TEXT` says TEXT, `status:N` fails, and so on.

As a script it serves until it is interrupted: `python model_server.py [port]`.
"""

import json
import ssl
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from model_protocols import Anthropic, Json, OpenAI, Reply, last_text

__all__ = ["Asked", "ModelServer", "Reply", "last_text", "reply_by_model", "running"]


@dataclass
class Asked:
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    body: Json


def reply_by_model(body: Json) -> Reply:
    """What the name of the model asks for."""
    name, _, rest = body["model"].removeprefix("claude-").partition(":")
    match name:
        case "say":
            return Reply(rest)
        case "status":
            return Reply(f"told to answer {rest}", status=int(rest), headers={"retry-after": "1"})
        case "malformed":
            return Reply(raw=b'{"choices": [')
        case "cut":
            return Reply("This sentence is never", cut=True)
        case "silent":
            return Reply(silent=True)
        case "call":
            # Calls the first tool once; with its result there, it says it.
            result = _tool_result(body["messages"][-1])
            if result is not None or not body.get("tools"):
                return Reply(last_text(body) if result is None else result)
            tool = body["tools"][0]
            return Reply(calls=((tool.get("function", tool)["name"], json.loads(rest or "{}")),))
        case _:
            return Reply(last_text(body))


def _tool_result(message: Json) -> str | None:
    """The result of a tool call that a message is; None where it is none."""
    content = message["content"]
    if message["role"] == "tool":
        return str(content)
    results = (
        [part["content"] for part in content if part["type"] == "tool_result"] if isinstance(content, list) else []
    )
    return results[0] if results and isinstance(results[0], str) else json.dumps(results[0]) if results else None


class ModelServer:
    """The server: where it is, what it was asked, and what it answers next.

    Args:
        port: 0 for any that is free.
        choose: what to answer where nothing is queued.
    """

    def __init__(self, port: int = 0, choose: Callable[[Json], Reply] = reply_by_model) -> None:
        self.replies: deque[Reply] = deque()
        self.asked: list[Asked] = []
        self.leave = Event()
        self.scheme = "http"
        self.choose = choose
        self.key: str | None = None  # the only one that is let in; None: any is, and none at all
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.models = self
        self.port = self._server.server_address[1]

    @property
    def pair(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        return f"{self.scheme}://{self.pair}/v1"

    @property
    def anthropic_url(self) -> str:
        return f"{self.scheme}://{self.pair}"

    def wrap(self, tls: ssl.SSLContext) -> None:
        """From here on it speaks https."""
        self.scheme = "https"
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)

    def answer(self, body: Json, headers: dict[str, str]) -> Reply:
        shown = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        if self.key is not None and shown != self.key:
            return Reply(f"the key {shown} is wrong", status=401)
        return self.replies.popleft() if self.replies else self.choose(body)

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.01)

    def stop(self) -> None:
        self.leave.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def running() -> Iterator[ModelServer]:
    """A server in a thread of this process."""
    server = ModelServer()
    thread = Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(10)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    models: ModelServer


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.models.asked.append(Asked(self.path, headers, body))
        self.close_connection = True
        reply = self.server.models.answer(body, headers)
        speak = {"/v1/chat/completions": OpenAI(), "/v1/messages": Anthropic()}.get(self.path.partition("?")[0])
        if speak is None:
            self._send(404, b'{"error": {"message": "there is nothing here"}}', {})
        elif reply.silent:
            self.server.models.leave.wait(60)
        elif reply.raw is not None:
            self._send(reply.status, reply.raw, {**reply.headers, "content-type": reply.media_type})
        elif reply.status >= 400:
            self._send(reply.status, json.dumps(speak.error(reply)).encode(), reply.headers)
        elif body.get("stream"):
            self._stream(list(speak.events(reply, body)), reply)
        else:
            self._send(200, json.dumps(speak.whole(reply, body)).encode(), reply.headers, cut=reply.cut)

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, cut: bool = False) -> None:
        self.send_response(status)
        own = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
        for name, value in {**own, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)

    def _stream(self, events: list[bytes], reply: Reply) -> None:
        """Server-sent events, each in a chunk of its own."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        if reply.cut or reply.ends or reply.stalls:
            events = events[: len(events) // 2]
        for event in events:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        if reply.stalls:
            self.server.models.leave.wait(60)
        if not reply.cut:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""

    def handle(self) -> None:
        with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):  # the client gave up, as some tests want
            super().handle()


if __name__ == "__main__":
    server = ModelServer(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(server.openai_url, flush=True)
    with suppress(KeyboardInterrupt):
        server.serve()
