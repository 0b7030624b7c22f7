"""Estimates the size of a template step's result before the step runs, never much too low.

Steps whose result can be larger than their inputs have their own estimate; any other step that creates something is
estimated at the size of its inputs. Sizes are characters, items, or digits. This module creates nothing: `templates`
compares the sizes with its limit.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

HUGE: Final = 1 << 62
"""A size above every limit."""

_OTHER: Final = 24
"""Characters estimated for a number, a truth value or None."""

_DIGITS_PER_UNIT: Final = 100
"""A number of n digits counts as 100 n, because arithmetic on long numbers costs far more than their text."""

_LONG_NUMBER = re.compile(r"\d{7}")
_NESTED_FIELD = re.compile(r"\{[^{}]*\{")

Arguments = Sequence[Any]
Named = Mapping[str, Any]


def size(value: Any) -> int:
    """The size of `value` itself: characters of a text, items of a collection."""
    if isinstance(value, str | bytes | list | tuple | dict | set | range):
        return len(value)
    if isinstance(value, int):
        return value.bit_length() // 3 + 1
    return _OTHER


def weight(value: Any, limit: int = HUGE) -> int:
    """The approximate number of characters of `value` as text; counting stops above `limit`.

    A value may contain the same long text a thousand times, so a part is counted as often as it would be written.
    """
    total, waiting = 0, [value]
    while waiting and total <= limit:
        current = waiting.pop()
        total += size(current) + 2
        if isinstance(current, dict):
            waiting.extend(current)
            waiting.extend(current.values())
        elif isinstance(current, list | tuple | set):
            waiting.extend(current)
    return total


def of_operator(operator: str, left: Any, right: Any, limit: int = HUGE) -> int:
    """The size of `left operator right`, for + * ** and %."""
    if operator == "%":
        return _percent(left, right, limit) if isinstance(left, str) else 0
    if operator == "+":
        return size(left) + size(right)
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * max(right, 1) if operator == "**" else left.bit_length() + right.bit_length()
        return bits // 3 * _DIGITS_PER_UNIT
    for collection, times in ((left, right), (right, left)):
        if operator == "*" and isinstance(times, int) and isinstance(collection, str | bytes | list | tuple):
            return len(collection) * max(times, 0)
    return 0


def of_call(function: Any, arguments: Arguments, named: Named, limit: int = HUGE) -> int:
    """The size of what a call in a template creates; 0 if it only inspects values or returns existing ones.

    Raises:
        ValueError: it creates bytes, which are no value; their number would be set by the caller.
    """
    method = getattr(function, "__wrapped__", function)  # the sandbox wraps str.format
    receiver, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
    if name in _MAKE_BYTES and isinstance(receiver, str | int | float | type):
        raise ValueError(f"{name}() makes bytes, and templates have texts only")
    if isinstance(receiver, str) and name in _METHODS:
        return _METHODS[name](receiver, arguments, named, limit)
    if function is not dict and (not isinstance(receiver, str | list | tuple | dict) or name in _MAKE_NOTHING):
        return 0
    return sum(map(size, (receiver or (), *arguments, *named.values())))


def of_filter(name: str, value: Any, arguments: Arguments, named: Named, limit: int = HUGE) -> int:
    """The size of `value|name(arguments)`, for the names in FILTERS."""
    return FILTERS[name](value, arguments, named, limit)


def _argument(arguments: Arguments, named: Named, place: int, name: str, default: Any) -> Any:
    return arguments[place] if len(arguments) > place else named.get(name, default)


def _number(value: Any) -> int:
    return max(int(value), 0) if isinstance(value, int | float) and value < HUGE else HUGE


def _percent(text: str, values: Any, limit: int) -> int:
    """The size of `text % values`. `*` takes a width from the values, and a long number in the text may be a width."""
    if "*" in text or _LONG_NUMBER.search(text):
        return HUGE
    # %(name)s may insert one value many times.
    return len(text) + weight(values, limit) * (text.count("%(") or 1) + _widths(text)


def _format(text: str, arguments: Arguments, named: Named, limit: int) -> int:
    """The size of `str.format`. A nested field takes a width from the values; fields may insert a value many times."""
    if _NESTED_FIELD.search(text.replace("{{", "")) or _LONG_NUMBER.search(text):
        return HUGE
    return len(text) + weight([list(arguments), dict(named)], limit) * max(text.count("{"), 1) + _widths(text)


def _widths(text: str) -> int:
    return sum(int(number) for number in re.findall(r"\d+", text))


def _padded(value: Any, arguments: Arguments, named: Named, limit: int) -> int:
    return weight(value, limit) + _number(_argument(arguments, named, 0, "width", 80))


def _replaced(value: Any, arguments: Arguments, named: Named, limit: int) -> int:
    old, new = _argument(arguments, named, 0, "old", ""), _argument(arguments, named, 1, "new", "")
    if not (isinstance(value, str) and isinstance(old, str)):
        return weight(value, limit) * (weight(new, limit) + 1)
    return len(value) + value.count(old) * weight(new, limit)


def _joined(value: Any, arguments: Arguments, named: Named, limit: int) -> int:
    """The filter `items|join(delimiter)`."""
    delimiter = _argument(arguments, named, 0, "d", "")
    return weight(value, limit) + (len(value) if hasattr(value, "__len__") else 0) * size(delimiter)


def _joined_by(delimiter: str, arguments: Arguments, named: Named, limit: int) -> int:
    """The method `delimiter.join(items)`."""
    return _joined(arguments[0] if arguments else (), (delimiter,), named, limit)


def _expanded(value: str, arguments: Arguments, named: Named, limit: int) -> int:
    return len(value) + value.count("\t") * _number(_argument(arguments, named, 0, "tabsize", 8))


def _translated(value: str, arguments: Arguments, named: Named, limit: int) -> int:
    table = arguments[0] if arguments else {}
    longest = max((size(item) for item in table.values()), default=1) if isinstance(table, dict) else 1
    return len(value) * max(longest, 1)


def _indented(value: Any, arguments: Arguments, named: Named, limit: int) -> int:
    width = _argument(arguments, named, 0, "width", 4)
    lines = value.count("\n") + 1 if isinstance(value, str) else 1
    return weight(value, limit) + lines * (len(width) if isinstance(width, str) else _number(width))


def _wrapped(value: Any, arguments: Arguments, named: Named, limit: int) -> int:
    width = max(_number(_argument(arguments, named, 0, "width", 79)), 1)
    breaks = weight(value, limit) // width + (value.count(" ") if isinstance(value, str) else 0) + 1
    return weight(value, limit) + breaks * size(_argument(arguments, named, 2, "wrapstring", "\n"))


def _filled(value: Any, arguments: Arguments, named: Named, limit: int) -> int:
    """`batch` and `slice` pad up to the number that they are given."""
    return _number(arguments[0] if arguments else named.get("linecount", named.get("slices", 0)))


def _rounded(value: Any, arguments: Arguments, named: Named, limit: int) -> int:
    """`round` computes 10 ** precision."""
    return _number(abs(_argument(arguments, named, 0, "precision", 0))) * _DIGITS_PER_UNIT


def _as_json(value: Any, arguments: Arguments, named: Named, limit: int) -> int:
    indent = _argument(arguments, named, 0, "indent", None)
    width = len(indent) if isinstance(indent, str) else _number(indent or 0)
    written = weight(value, limit)
    return written + written * width if width > 16 else written


def _linked(value: Any, arguments: Arguments, named: Named, limit: int) -> int:
    text = value if isinstance(value, str) else ""
    links = text.count(".") + text.count("@") + text.count(":")
    return weight(value, limit) + links * weight([list(arguments), dict(named)], limit)


def _summed(value: Any, arguments: Arguments, named: Named, limit: int) -> int:
    """Adding up lists copies the sum so far at every step."""
    start = _argument(arguments, named, 1, "start", 0)
    added = weight(value, limit) + weight(start, limit)
    return added if isinstance(start, int | float) else added * (size(value) + 1)


def _kept(value: Any, arguments: Arguments, named: Named, limit: int) -> int:
    """Filters that put the same items into another list."""
    return size(value)


def _written(value: Any, arguments: Arguments, named: Named, limit: int) -> int:
    """Filters that convert their value to text."""
    return weight(value, limit)


def _formatted(value: Any, arguments: Arguments, named: Named, limit: int) -> int:
    """The filter `text|format(values)`, which works like the operator %."""
    return _percent(str(value), named or list(arguments), limit) if isinstance(value, str) else weight(value, limit)


Estimate = Callable[[Any, Arguments, Named, int], int]

_METHODS: dict[str, Estimate] = {
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), _padded),
    **dict.fromkeys(("format", "format_map"), _format),
    "replace": _replaced,
    "join": _joined_by,
    "expandtabs": _expanded,
    "translate": _translated,
}

_MAKE_BYTES: Final = frozenset({"encode", "to_bytes", "from_bytes", "fromhex"})

_MAKE_NOTHING: Final = frozenset(
    {"get", "keys", "values", "items", "count", "index", "rindex", "find", "rfind", "startswith", "endswith"}
    | {"isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric"}
    | {"isprintable", "isspace", "istitle", "isupper"}
)
"""Methods that only inspect values or return existing ones."""

FILTERS: dict[str, Estimate] = {
    **dict.fromkeys(("batch", "slice"), _filled),
    **dict.fromkeys(("capitalize", "e", "escape", "forceescape", "lower", "pprint", "string", "striptags"), _written),
    **dict.fromkeys(("title", "trim", "truncate", "upper", "urlencode", "wordcount", "xmlattr"), _written),
    **dict.fromkeys(("dictsort", "groupby", "items", "list", "reverse", "sort", "unique"), _kept),
    "center": _padded,
    "format": _formatted,
    "indent": _indented,
    "join": _joined,
    "replace": _replaced,
    "round": _rounded,
    "sum": _summed,
    "tojson": _as_json,
    "urlize": _linked,
    "wordwrap": _wrapped,
}
"""The filters that create something → how to estimate its size."""
