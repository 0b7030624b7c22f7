"""Reads what other systems deliver: JSON or a form, up to 1 MiB.

A payload is an object. Anything else in JSON is put into one, as `body`. A form becomes an object of texts (lists of
texts where a field occurs several times); a form with the only field `payload`, as GitHub and Slack send it, is read as
the JSON that stands in there.
"""

from typing import Any, Final, cast
from urllib.parse import parse_qsl

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge

from agentflow.api.requests import parsed
from agentflow.errors import Malformed, TooLarge, Unsupported
from agentflow.graph.json_values import storable
from agentflow.triggers.terms import BodyKind

MAX_PAYLOAD: Final = 1024 * 1024
"""Bytes of a body."""

HOOKS: Final = "/hooks/"
"""How the paths of webhooks begin."""

_MOST_FIELDS: Final = 10_000

_FORM: Final = "application/x-www-form-urlencoded"
_PAYLOAD: Final = "payload"
_BODY: Final = "body"


def body_of(request: Request) -> bytes:
    """The body as it was sent.

    Raises:
        TooLarge: it has more than `MAX_PAYLOAD` bytes. Then it is not read.
    """
    request.max_content_length = MAX_PAYLOAD
    try:
        return request.get_data()
    except RequestEntityTooLarge:
        raise TooLarge(f"a payload has at most {MAX_PAYLOAD} bytes") from None


def read(request: Request, kind: BodyKind) -> dict[str, Any]:
    """The payload in the body of a request.

    Raises:
        Unsupported: it is of another kind than is wanted.
        Malformed: it cannot be read as what it says that it is.
    """
    body, sent = body_of(request), _kind(request.mimetype)
    if sent is None or kind not in (BodyKind.ANY, sent):
        wanted = {BodyKind.JSON: "JSON", BodyKind.FORM: "a form"}.get(kind, "JSON or a form")
        raise Unsupported(f"the body must be {wanted}, and the Content-Type must say so")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise Unsupported("the body must come as it is, without a Content-Encoding")
    if (charset := request.mimetype_params.get("charset", "utf-8").lower()) not in ("utf-8", "utf8"):
        raise Unsupported(f"the body must be UTF-8, not {charset[:40]!a}")
    if sent is BodyKind.FORM:
        return _form(body)
    if not body:
        raise Malformed("the request has no body; JSON is expected")
    return _object(parsed(body, strict=True))


def _kind(mimetype: str) -> BodyKind | None:
    if mimetype == _FORM:
        return BodyKind.FORM
    is_json = mimetype in ("", "application/json", "text/json") or mimetype.endswith("+json")
    return BodyKind.JSON if is_json else None


def _object(content: Any) -> dict[str, Any]:
    try:
        payload = storable(content if isinstance(content, dict) else {_BODY: content})
    except ValueError as error:
        raise Malformed(f"the payload is {error}") from None
    return cast(dict[str, Any], payload)


def _form(body: bytes) -> dict[str, Any]:
    if body.lstrip()[:1] in (b"{", b"["):
        raise Malformed("the body is no form, but looks like JSON: send it as Content-Type: application/json")
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError as error:  # UnicodeDecodeError, too
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else f"it has more than {_MOST_FIELDS} fields"
        raise Malformed(f"the body is no form: {why}") from None
    if len(fields) == 1 and fields[0][0] == _PAYLOAD:
        return _object(parsed(fields[0][1].encode(), strict=True))
    found: dict[str, Any] = {}
    for name, value in fields:
        before = found.get(name)
        found[name] = value if before is None else [*before, value] if isinstance(before, list) else [before, value]
    return found
