"""Reads values in payloads by JSONPath, and decides whether a payload meets conditions. Pure.

Of JSONPath (RFC 9535) only singular paths are taken, such as `$.order.items[0]['unit price']`, without escapes: they
name one place at most, and reading it takes time in proportion to the path. Wildcards, `..` and expressions could take
any time in a large payload, which is why no library for all of JSONPath stands here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from agentflow.graph.json_values import same

MAX_PATH: Final = 500
"""Characters of a path."""

PATH: Final = (
    r"^\$(\.[A-Za-z_][A-Za-z0-9_]*|\[-?(0|[1-9][0-9]{0,8})\]"
    r"|\['[^'\\\x00-\x1f]+'\]|\[\"[^\"\\\x00-\x1f]+\"\])*$"
)
"""Pattern of a path."""

_STEP: Final = re.compile(r"\.(?P<name>\w+)|\[(?P<index>-?\d+)\]|\['(?P<single>[^']+)'\]|\[\"(?P<double>[^\"]+)\"\]")

_PATHS_KEPT: Final = 1_000


class _Missing:
    """What stands at a place that is not there."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


class Operator(StrEnum):
    """How a condition compares the value at its path with its own."""

    EQUALS = "equals"
    NOT_EQUALS = "not_equals"  # also where there is none
    IN = "in"  # one of a list
    NOT_IN = "not_in"  # also where there is none
    CONTAINS = "contains"  # a text a text, a list an item, an object a key
    ABOVE = "above"  # numbers, or texts
    BELOW = "below"
    EXISTS = "exists"  # even if null
    ABSENT = "absent"


WITHOUT_VALUE: Final = frozenset({Operator.EXISTS, Operator.ABSENT})
"""Operators that compare with nothing."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of a payload."""

    path: str
    operator: Operator
    value: Any = None

    def holds(self, payload: Any) -> bool:
        """Whether it holds."""
        found = read(self.path, payload)
        if (opposite := _OPPOSITES.get(self.operator)) is not None:
            return not _compared(opposite, found, self.value)
        return _compared(self.operator, found, self.value)


_OPPOSITES: Final = {
    Operator.NOT_EQUALS: Operator.EQUALS,
    Operator.NOT_IN: Operator.IN,
    Operator.ABSENT: Operator.EXISTS,
}


def read(path: str, payload: Any) -> Any:
    """The value at a path; `MISSING`: there is none.

    Raises:
        ValueError: it is no path.
    """
    found = payload
    for step in _steps(path):
        if isinstance(step, str):
            if not isinstance(found, dict) or step not in found:
                return MISSING
        elif not isinstance(found, list) or not -len(found) <= step < len(found):
            return MISSING
        found = found[step]
    return found


def first_unmet(conditions: Sequence[Condition], payload: Any) -> Condition | None:
    """The first condition that does not hold; None: all do."""
    return next((condition for condition in conditions if not condition.holds(payload)), None)


@lru_cache(_PATHS_KEPT)
def _steps(path: str) -> tuple[str | int, ...]:
    """The names and indexes of a path."""
    if len(path) > MAX_PATH or not re.fullmatch(PATH, path):
        raise ValueError("a path is written as $.name[0]['another name']")
    return tuple(
        int(step["index"]) if step["index"] else step["name"] or step["single"] or step["double"] or ""
        for step in _STEP.finditer(path, 1)
    )


def _compared(operator: Operator, found: Any, value: Any) -> bool:
    if operator is Operator.EXISTS:
        return found is not MISSING
    if found is MISSING:
        return False
    if operator is Operator.EQUALS:
        return same(found, value)
    if operator is Operator.IN:
        return any(same(found, one) for one in value)
    if operator is Operator.CONTAINS:
        return _contains(found, value)
    return _ordered(found, value) and (found > value if operator is Operator.ABOVE else found < value)


def _contains(found: Any, value: Any) -> bool:
    if isinstance(found, list):
        return any(same(item, value) for item in found)
    return isinstance(found, str | dict) and isinstance(value, str) and value in found


def _ordered(one: Any, other: Any) -> bool:
    """Whether two values can be told apart by size: two numbers, or two texts."""
    if isinstance(one, bool) or isinstance(other, bool):
        return False
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    return numbers or (isinstance(one, str) and isinstance(other, str))
