"""How is a reply written? As JSON in which every stored value comes out as it went in.

Models are written by their fields and never by pydantic's own JSON: that refuses half surrogate pairs in keys and
nesting beyond its own limit, both of which a block may well have given.
"""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from flask import Response
from pydantic import BaseModel

from agentflow.engine.codec import dumps


def reply(model: BaseModel, status: int = 200) -> Response:
    """A public model as a JSON response."""
    return Response(json_text(model), status=status, mimetype="application/json")


def json_response(content: Any, status: int = 200) -> Response:
    """`content`, which is JSON, as a response."""
    return Response(dumps(content), status=status, mimetype="application/json")


def json_text(model: BaseModel) -> str:
    """A public model as JSON text that has a UTF-8 form."""
    text = _encode(model)
    try:
        text.encode()
    except UnicodeEncodeError:
        return _encode_ascii(model)
    return text


def _plain(value: object) -> Any:
    """What the encoder does not know. Values are JSON already; these are the fields around them."""
    if isinstance(value, BaseModel):
        return dict(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    raise TypeError(f"a reply cannot hold a {type(value).__name__}")


_SHAPE: dict[str, Any] = {"allow_nan": False, "separators": (",", ":"), "default": _plain}
_encode = json.JSONEncoder(ensure_ascii=False, **_SHAPE).encode
_encode_ascii = json.JSONEncoder(ensure_ascii=True, **_SHAPE).encode
