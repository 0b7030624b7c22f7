"""When are two JSON values the same, and what is a text that means a number?

Python takes True for 1, which JSON does not; and numbers often arrive as texts.
"""

from typing import Any

from agentflow.graph.numerals import number_in


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
    """A text that means a number, as that number (whole ones exactly); anything else as it is."""
    number = number_in(value) if isinstance(value, str) else None
    return value if number is None or number != number else number  # NaN equals nothing
