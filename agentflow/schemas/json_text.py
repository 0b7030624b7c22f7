"""Writes public models as JSON, with every stored value unchanged.

Models are serialised field by field and not by pydantic: its JSON writer refuses half surrogate pairs in keys, and
nesting beyond its limit, and a block may output both.
"""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel


def json_text(model: BaseModel) -> str:
    """A public model as JSON text that can be encoded as UTF-8."""
    text = _encode(model)
    try:
        text.encode()
    except UnicodeEncodeError:
        return _encode_ascii(model)
    return text


def _plain(value: object) -> Any:
    """Convert types that the encoder does not know: model fields. The values in them are JSON already."""
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
