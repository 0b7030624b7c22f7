"""How is a value written as text? The one codec of values (outputs, inputs), on top of the standard library's.

It preserves the order of keys, integers of any size and NUL characters. NaN and the infinities, which JSON does not
have, become the texts "NaN", "Infinity" and "-Infinity"; coercion turns them back into numbers.
"""

import json
import math
from typing import Any

from agentflow.errors import BlockBug

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode


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
        if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            return _encode_ascii(_finite(value))  # lone surrogates have no UTF-8 form, but a JSON escape
    except (TypeError, ValueError, RecursionError) as error:
        raise BlockBug(f"not a JSON value: {error}") from None
    return text


def loads(text: str) -> Any:
    """The value that `dumps` wrote.

    Raises:
        ValueError: `text` is not JSON.
    """
    return json.loads(text)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
