"""Writes values as text and reads them: the one codec of outputs and inputs, on top of the standard library's.

It preserves the order of keys, large integers (to the 4,300 digits that Python reads) and NUL characters. NaN and the
infinities, which JSON does not have, become the texts "NaN", "Infinity" and "-Infinity"; coercion turns them back into
numbers.
"""

import json
import math
import re
from typing import Any, Final

from agentflow.errors import BlockBug

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().decode  # bound here: a block's library that replaces `json.loads` changes nothing for us

MAX_DEPTH: Final = 750
"""Containers in each other that a value may be: who reads it has a stack of 1,000 frames, and stands in some of it."""

_CONTAINERS = (dict, list, tuple)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def dumps(value: Any) -> str:
    """`value` as JSON text that PostgreSQL can store.

    Raises:
        BlockBug: it is not JSON (another type, keys that are not text, nested too deep or in a circle).
    """
    try:
        try:
            text = _encode(value)
        except ValueError as error:
            if "Out of range float" not in str(error):  # it says so for NaN and infinities; else: circular
                raise
            text = _encode(_finite(value))
        if isinstance(value, _CONTAINERS):
            _refuse_odd_containers(value)
        return text if text.isascii() or has_utf8_form(text) else _encode_ascii(_finite(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise BlockBug(f"not a JSON value: {error}") from None


def loads(text: str) -> Any:
    """The value that `dumps` wrote.

    Raises:
        ValueError: `text` is not JSON.
    """
    return _decode(text)


def members(record: Any) -> dict[str, Any]:
    """The fields of a dataclass, as they are. (`asdict` copies them, and cannot go as deep as a value may be.)"""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def storable_text(text: str) -> str:
    """`text` for a column of type text: NUL and lone surrogates, which PostgreSQL has no form for, as U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", text)


def _refuse_odd_containers(value: Any) -> None:
    """The encoder writes the keys 1 and "1" alike, and so loses one of them; and it goes deeper than others can follow.

    Called after it has refused circles.
    """
    level, depth = [value], 0
    while level:
        if (depth := depth + 1) > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        below: list[Any] = []
        for container in level:
            if isinstance(container, dict):
                for key in container:
                    if not isinstance(key, str):
                        raise TypeError(f"keys must be text, not {type(key).__name__}")
                container = container.values()
            below += [item for item in container if isinstance(item, _CONTAINERS)]
        level = below


def has_utf8_form(text: str) -> bool:
    """Lone surrogates have none, but a JSON escape."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
