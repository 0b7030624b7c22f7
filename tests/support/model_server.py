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
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """One answer.

    Attributes:
        text: what the model says.
        calls: the tools that it calls, as (name, arguments); arguments that are text are sent as they are.
        status: of HTTP; 400 and more carry `text` as the error's message.
        headers: besides those of the message.
        raw: the body as it is, in place of a well-formed one.
        media_type: of a raw body.
        cut: the connection ends in the middle of the reply.
        ends: a stream is cut off cleanly instead: no finish reason, no end mark.
        silent: nothing is answered until the server stops.
        finish: OpenAI's finish reason, where it is not `stop` or `tool_calls`.
        ids: of the tool calls, where they matter.
    """

    text: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    media_type: str = "application/json"
    cut: bool = False
    ends: bool = False
    silent: bool = False
    finish: str = ""
    ids: tuple[str, ...] = ()


@dataclass
class Asked:
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    body: Json


def last_text(body: Json) -> str:
    """The text of the last message of a request, in either form."""
    content = body["messages"][-1].get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


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

    def answer(self, body: Json) -> Reply:
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
        reply = self.server.models.answer(body)
        speak = {"/v1/chat/completions": _OpenAI(), "/v1/messages": _Anthropic()}.get(self.path.partition("?")[0])
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
        if reply.cut or reply.ends:
            events = events[: len(events) // 2]
        for event in events:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        if not reply.cut:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""

    def handle(self) -> None:
        with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):  # the client gave up, as some tests want
            super().handle()


def _arguments(given: Any) -> str:
    return given if isinstance(given, str) else json.dumps(given)


def _tokens(body: Json) -> int:
    """As good a count as any: the words of the last message."""
    return len(last_text(body).split())


class _OpenAI:
    """https://platform.openai.com/docs/api-reference/chat"""

    def error(self, reply: Reply) -> Json:
        return {"error": {"message": reply.text, "type": "some_error", "param": None, "code": None}}

    def whole(self, reply: Reply, body: Json) -> Json:
        message: Json = {"role": "assistant", "content": reply.text or None}
        if reply.calls:
            message["tool_calls"] = self._calls(reply)
        choice = {"index": 0, "message": message, "finish_reason": self._finish(reply)}
        return {**self._head(body, "chat.completion"), "choices": [choice], "usage": self._usage(reply, body)}

    def events(self, reply: Reply, body: Json) -> Iterator[bytes]:
        head = self._head(body, "chat.completion.chunk")
        deltas: list[Json] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": word + " "} for word in reply.text.split(" ")[:-1]]
        deltas += [{"content": reply.text.split(" ")[-1]}]
        deltas += [{"tool_calls": [{"index": index, **call}]} for index, call in enumerate(self._calls(reply))]
        for delta in deltas:
            yield _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        yield _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": self._finish(reply)}]})
        if body.get("stream_options", {}).get("include_usage"):
            yield _event({**head, "choices": [], "usage": self._usage(reply, body)})
        yield b"data: [DONE]\n\n"

    def _head(self, body: Json, kind: str) -> Json:
        return {"id": "chatcmpl-1", "object": kind, "created": 1_700_000_000, "model": body["model"]}

    def _calls(self, reply: Reply) -> list[Json]:
        ids = reply.ids or tuple(f"call_{number}" for number in range(len(reply.calls)))
        return [
            {"id": each, "type": "function", "function": {"name": name, "arguments": _arguments(given)}}
            for each, (name, given) in zip(ids, reply.calls, strict=True)
        ]

    def _finish(self, reply: Reply) -> str:
        return reply.finish or ("tool_calls" if reply.calls else "stop")

    def _usage(self, reply: Reply, body: Json) -> Json:
        prompt, completion = _tokens(body), len(reply.text.split())
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


class _Anthropic:
    """https://docs.anthropic.com/en/api/messages"""

    def error(self, reply: Reply) -> Json:
        kinds = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
        kind = kinds.get(reply.status, "invalid_request_error" if reply.status < 500 else "api_error")
        return {"type": "error", "error": {"type": kind, "message": reply.text}}

    def whole(self, reply: Reply, body: Json) -> Json:
        return {**self._head(body), "content": self._content(reply), "stop_reason": self._stop(reply),
                "usage": {"input_tokens": _tokens(body), "output_tokens": len(reply.text.split())}}  # fmt: skip

    def events(self, reply: Reply, body: Json) -> Iterator[bytes]:
        usage = {"input_tokens": _tokens(body), "output_tokens": 1}
        message = {**self._head(body), "content": [], "stop_reason": None, "usage": usage}
        yield _named({"type": "message_start", "message": message})
        for index, block in enumerate(self._content(reply)):
            empty, deltas = self._deltas(block)
            yield _named({"type": "content_block_start", "index": index, "content_block": empty})
            for delta in deltas:
                yield _named({"type": "content_block_delta", "index": index, "delta": delta})
            yield _named({"type": "content_block_stop", "index": index})
        delta = {"stop_reason": self._stop(reply), "stop_sequence": None}
        usage = {"output_tokens": len(reply.text.split())}
        yield _named({"type": "message_delta", "delta": delta, "usage": usage})
        yield _named({"type": "message_stop"})

    def _head(self, body: Json) -> Json:
        return {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "stop_sequence": None}

    def _content(self, reply: Reply) -> list[Json]:
        texts: list[Json] = [{"type": "text", "text": reply.text}] if reply.text else []
        return texts + [
            {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": given}
            for number, (name, given) in enumerate(reply.calls)
        ]

    def _deltas(self, block: Json) -> tuple[Json, list[Json]]:
        if block["type"] == "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": part} for part in block["text"].split("\b")]
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]

    def _stop(self, reply: Reply) -> str:
        finish = {"length": "max_tokens", "content_filter": "refusal"}.get(reply.finish)
        return finish or ("tool_use" if reply.calls else "end_turn")


def _event(data: Json) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def _named(data: Json) -> bytes:
    return b"event: " + data["type"].encode() + b"\n" + _event(data)


if __name__ == "__main__":
    server = ModelServer(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(server.openai_url, flush=True)
    with suppress(KeyboardInterrupt):
        server.serve()
