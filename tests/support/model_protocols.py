"""How do providers of language models write an answer down? OpenAI's chat completions and Anthropic's messages.

For the test server (`model_server`): whole answers, the events of streams, and errors.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
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
        stalls: a stream stops coming in its middle, and stays open until the server stops.
        finish: OpenAI's finish reason, where it is not `stop` or `tool_calls`.
        ids: of the tool calls, where they matter.
        usage: what the reply says besides or in place of its usual usage, in the provider's own form.
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
    stalls: bool = False
    finish: str = ""
    ids: tuple[str, ...] = ()
    usage: Json = field(default_factory=dict)


def last_text(body: Json) -> str:
    """The text of the last message of a request, in either form."""
    content = body["messages"][-1].get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _arguments(given: Any) -> str:
    return given if isinstance(given, str) else json.dumps(given)


def _tokens(body: Json) -> int:
    """As good a count as any: the words of the last message."""
    return len(last_text(body).split())


class OpenAI:
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
        return {
            "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **reply.usage
        }  # fmt: skip


class Anthropic:
    """https://docs.anthropic.com/en/api/messages"""

    def error(self, reply: Reply) -> Json:
        kinds = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
        kind = kinds.get(reply.status, "invalid_request_error" if reply.status < 500 else "api_error")
        return {"type": "error", "error": {"type": kind, "message": reply.text}}

    def whole(self, reply: Reply, body: Json) -> Json:
        usage = {"input_tokens": _tokens(body), "output_tokens": len(reply.text.split()), **reply.usage}
        return {**self._head(body), "content": self._content(reply), "stop_reason": self._stop(reply), "usage": usage}

    def events(self, reply: Reply, body: Json) -> Iterator[bytes]:
        usage = {"input_tokens": _tokens(body), **reply.usage, "output_tokens": 1}
        message = {**self._head(body), "content": [], "stop_reason": None, "usage": usage}
        yield _named({"type": "message_start", "message": message})
        for index, block in enumerate(self._content(reply)):
            empty, deltas = self._deltas(block)
            yield _named({"type": "content_block_start", "index": index, "content_block": empty})
            for delta in deltas:
                yield _named({"type": "content_block_delta", "index": index, "delta": delta})
            yield _named({"type": "content_block_stop", "index": index})
        delta = {"stop_reason": self._stop(reply), "stop_sequence": None}
        usage = {"output_tokens": len(reply.text.split()), **reply.usage}
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
