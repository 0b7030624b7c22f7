"""The block that talks to the web. What it may reach and how much it may take stands in `ssrf` and `fetching`."""

import base64
import binascii
import json
from collections.abc import AsyncIterator
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

from pydantic import Field

from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.blocks.fetching import Body, Limits, Reply, fetch
from agentflow.engine.codec import dumps
from agentflow.errors import BadInput

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS"})

_BROKEN = object()


class SendWebRequest(Block):
    id = "6595ae1f-b924-42cb-9a41-551a0611c4b4"
    name = "SendWebRequest"
    description = (
        "Sends an HTTP request. Goes on along `response`, `client_error` (4xx) or `server_error` (anything else). "
        "Only public addresses can be reached."
    )
    categories = ("OUTPUT",)

    class Input(BlockInput):
        url: str = Field(description="The address, http or https.")
        method: Literal["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"] = Field(
            "POST", description="The HTTP method."
        )
        headers: dict[str, str] = Field({}, description="Headers; those of the message itself are set for you.")
        json_format: bool = Field(True, description="Send the body as JSON and read JSON; else a form, and text.")
        body: Any = Field(None, description="What to send: a JSON value, or text.")
        files_name: str = Field("file", description="The form field of the files.")
        files: list[str] = Field([], description="Files to send with the body's fields as a form, as data: addresses.")

    class Output(BlockOutput):
        response: Any = Field(description="The body of a reply with a status of 200 to 299.")
        client_error: Any = Field(description="The body of a reply with a status of 400 to 499.")
        server_error: Any = Field(description="The body of any other reply.")

    # What needs a server to show is in the tests; these need none.
    vectors = (
        TestVector({"url": "http://127.0.0.1:1/"}, fails="may not be reached from here"),
        TestVector({"url": "http://[::ffff:169.254.169.254]/latest/meta-data"}, fails="may not be reached from here"),
        TestVector({"url": "file:///etc/passwd"}, fails="only http and https"),
        TestVector({"url": "http://"}, fails="no host"),
        TestVector({"url": "https://example.com:port/"}, fails="not an address that can be fetched"),
        TestVector({"url": "https://example.com/", "method": "BREW"}, fails="method"),
    )

    async def run(self, inputs: Input, context: Context) -> AsyncIterator[tuple[str, Any]]:
        headers = dict(inputs.headers)
        if inputs.method not in _IDEMPOTENT and "idempotency-key" not in {name.lower() for name in headers}:
            headers["Idempotency-Key"] = context.idempotency_key  # a second attempt need not act twice
        reply = await fetch(inputs.method, inputs.url.strip(), headers, _body(inputs), Limits.from_settings())
        yield _pin(reply.status), _value(reply, inputs.json_format)


def _pin(status: int) -> str:
    if 200 <= status < 300:
        return "response"
    return "client_error" if 400 <= status < 500 else "server_error"


def _body(inputs: SendWebRequest.Input) -> Body:
    value = inputs.body
    if inputs.files:
        value = _json_or(value, value) if isinstance(value, str) else value
        if value is not None and not isinstance(value, dict):
            raise BadInput("with files, the body must be a dictionary of form fields")
        return Body(fields=_fields(value or {}), files=[(inputs.files_name, _file(file)) for file in inputs.files])
    if value is None:
        return Body()
    if isinstance(value, str):
        is_json = inputs.json_format and _json_or(value, _BROKEN) is not _BROKEN
        return Body(value, "application/json" if is_json else "text/plain; charset=utf-8")
    if isinstance(value, dict) and not inputs.json_format:
        return Body(fields=_fields(value))
    return Body(dumps(value), "application/json")


def _fields(body: dict[str, Any]) -> dict[str, str | list[str]]:
    """Form fields are texts; a list of plain values is a field given several times."""
    return {
        name: [_field(item) for item in value] if isinstance(value, list) else _field(value)
        for name, value in body.items()
        if value is not None
    }


def _field(value: Any) -> str:
    return value if isinstance(value, str) else dumps(value)


def _file(address: str) -> tuple[str, bytes, str]:
    """(file name, content, media type) of a data: address.

    Raises:
        BadInput: it is another kind of address, or broken.
    """
    head, comma, data = address.partition(",")
    if not head.startswith("data:") or not comma:
        raise BadInput("a file must be given as a data: address, such as data:text/plain;base64,SGVsbG8=")
    media_type, *parameters = head.removeprefix("data:").split(";")
    name = next((part.removeprefix("name=") for part in parameters if part.startswith("name=")), "file")
    content = unquote_to_bytes(data)
    if "base64" in parameters:
        try:
            content = base64.b64decode(content, validate=True)
        except binascii.Error:
            raise BadInput("a file's data: address is not valid base64") from None
    return name, content, media_type or "text/plain"


def _value(reply: Reply, json_format: bool) -> Any:
    """A JSON reply as its value, where asked for; everything else, and JSON that is broken, as text."""
    is_json = reply.media_type == "application/json" or reply.media_type.endswith("+json")
    if not (json_format and is_json):
        return reply.text
    return _json_or(reply.text, reply.text) if reply.body.strip() else None


def _json_or(text: str, otherwise: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return otherwise
