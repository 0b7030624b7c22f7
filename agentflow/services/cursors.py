"""How does a list say where its next page begins? By an opaque text that holds the key of the last thing shown."""

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any
from uuid import UUID

from agentflow.errors import Malformed


def cursor(*key: int | str | UUID) -> str:
    """The cursor that stands for `key`."""
    text = json.dumps([part if isinstance(part, int) else str(part) for part in key], separators=(",", ":"))
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def integers(text: str | None, length: int) -> tuple[int, ...] | None:
    """The `length` integers in a cursor; None for no cursor.

    Raises:
        Malformed: it is no cursor of this list.
    """
    if text is None:
        return None
    key = _decode(text)
    limit = 2**31
    if len(key) != length or not all(type(part) is int and -limit <= part < limit for part in key):
        raise Malformed(f"{text!r} is no cursor of this list")
    return tuple(key)


def identifier(text: str | None) -> UUID | None:
    """The id in a cursor; None for no cursor.

    Raises:
        Malformed: it is no cursor of this list.
    """
    if text is None:
        return None
    key = _decode(text)
    try:
        (only,) = key
        return UUID(only)
    except (ValueError, TypeError, AttributeError):
        raise Malformed(f"{text!r} is no cursor of this list") from None


def _decode(text: str) -> list[Any]:  # what is inside is checked by the caller
    try:
        key = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        raise Malformed(f"{text!r} is no cursor of this list") from None
    return key if isinstance(key, list) else []
