"""Free JSON within a graph's document: what of it can be kept."""

import math
from typing import Annotated, Any, Final

from pydantic import AfterValidator

MAX_NESTING: Final = 100
"""Levels of lists and dictionaries in a literal. Deeper ones would exhaust the stack of those who read them."""


def storable(value: Any, level: int = 0) -> Any:
    """`value` with NaN and the infinities, which JSON does not have, as the texts "NaN", "Infinity", "-Infinity".

    Raises:
        ValueError: it is nested deeper than `MAX_NESTING`.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if not isinstance(value, dict | list):
        return value
    if level >= MAX_NESTING:
        raise ValueError(f"nested deeper than {MAX_NESTING} levels")
    if isinstance(value, list):
        return [storable(item, level + 1) for item in value]
    return {key: storable(item, level + 1) for key, item in value.items()}


def of_whole_characters(value: Any, level: int = 0) -> Any:
    """`storable(value)`, where no text may hold half a surrogate pair: that is no character, and has no UTF-8 form.

    Raises:
        ValueError: a text or a key does; or it is nested too deep.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{value[:50]!a} holds half a surrogate pair, which is no character") from None
    elif isinstance(value, dict | list) and level >= MAX_NESTING:
        raise ValueError(f"nested deeper than {MAX_NESTING} levels")
    if isinstance(value, list):
        return [of_whole_characters(item, level + 1) for item in value]
    if isinstance(value, dict):
        return {of_whole_characters(key): of_whole_characters(item, level + 1) for key, item in value.items()}
    return storable(value)


Literals = Annotated[dict[str, Any], AfterValidator(storable)]
"""Free JSON."""
