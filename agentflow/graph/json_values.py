"""Sets the rules for JSON values: which can be stored, which texts mean numbers, which values are equal.

One rule says which text is a number, for pins, comparisons, weights, durations and days. A number has digits and
optionally a sign, a point, an exponent and surrounding white space: ` 5`, `-1.50`, `+.5e3`. Forms that only Python
accepts (`1_000`, digits of other scripts) and numbers too large to hold (`1e400`) are refused. `NaN`, `Infinity` and
`-Infinity` are accepted, because JSON here writes those numbers as such texts.
"""

import math
import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator

MAX_NESTING: Final = 100
"""Levels of lists and dictionaries in a literal. Deeper values would exhaust the stack of the code that reads them."""

_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+(?P<point>\.[0-9]*)?|(?P<fraction>\.[0-9]+))(?P<exponent>[eE][+-]?[0-9]+)?")
_SPECIAL: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

MAX_DIGITS: Final = 4300
"""Digits of a whole number. Python refuses longer ones, because reading them takes quadratic time."""


def storable(value: Any, level: int = 0) -> Any:
    """`value` with NaN and the infinities as the texts "NaN", "Infinity", "-Infinity": JSON has no such numbers.

    Raises:
        ValueError: `value` is nested deeper than `MAX_NESTING`.
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
    """`storable(value)`; also refuses half surrogate pairs, which are no characters and have no UTF-8 form.

    Raises:
        ValueError: a text or a key holds half a surrogate pair, or `value` is nested too deep.
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
"""Any JSON object that can be stored."""


def number_in(text: str) -> int | float | None:
    """The number that `text` means, or None. A whole number is read exactly."""
    text = text.strip()
    if text in _SPECIAL:
        return _SPECIAL[text]
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    if not (found["point"] or found["fraction"] or found["exponent"]):
        return int(text) if len(text) <= MAX_DIGITS else None
    number = float(text)
    return number if math.isfinite(number) else None


def same(first: Any, second: Any) -> bool:
    """Whether two JSON values are equal: 1 equals 1.0, but True does not equal 1, at any depth."""
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(item, second[key]) for key, item in first.items())
    return bool(first == second)


def number_if_numeric(value: Any) -> Any:
    """A text that means a number as that number, whole ones exactly; any other value unchanged."""
    number = number_in(value) if isinstance(value, str) else None
    return value if number is None or number != number else number  # NaN is not equal to anything


def only_a_number(value: Any) -> Any:
    """`value`, unless it is a truth value or a text, which pydantic would turn into a number.

    Raises:
        ValueError: it is one of these.
    """
    if isinstance(value, bool | str):
        raise ValueError("a number is needed")
    return value
