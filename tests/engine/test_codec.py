"""What the codec writes, it reads; what is no JSON is the block's bug, and never altered in silence."""

import enum
import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.engine.codec import MAX_DEPTH, dumps, loads
from agentflow.errors import BlockBug

# All characters, lone surrogates among them: blocks get them from file names and broken web pages.
texts = st.text(st.characters(exclude_categories=[]))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5), max_leaves=20
)


def order(value: Any) -> Any:
    """`value` with every dict as the list of its items: equality of dicts does not look at the order."""
    if isinstance(value, dict):
        return [(key, order(item)) for key, item in value.items()]
    return [order(item) for item in value] if isinstance(value, list) else (type(value), value)


@given(values)
def test_a_value_survives_with_its_order_and_types(value: Any) -> None:
    assert order(loads(dumps(value))) == order(value)


@given(values)
def test_the_text_can_be_stored_by_postgresql(value: Any) -> None:
    text = dumps(value)
    assert "\x00" not in text
    text.encode("utf-8")


@given(values)
def test_writing_twice_gives_the_same_text(value: Any) -> None:
    assert dumps(loads(dumps(value))) == dumps(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None]}, '{"b":1,"a":[true,null]}'),
        (2**200, str(2**200)),
        (-(2**63) - 1, "-9223372036854775809"),
        (10**4299, "1" + "0" * 4299),
        (1.0, "1.0"),
        (1e308, "1e+308"),
        ("é✓😀", '"é✓😀"'),
        ("a\x00b", r'"a\u0000b"'),
        ("\ud800", r'"\ud800"'),
        ({"\udfff": "é"}, '{"\\udfff":"\\u00e9"}'),
        ((1, (2,)), "[1,[2]]"),
        ("", '""'),
        ({"": {}}, '{"":{}}'),
    ],
)
def test_a_value_is_written_like_this(value: Any, text: str) -> None:
    assert dumps(value) == text


@pytest.mark.parametrize(
    ("number", "text"), [(math.nan, '"NaN"'), (math.inf, '"Infinity"'), (-math.inf, '"-Infinity"')]
)
def test_what_json_has_no_number_for_becomes_a_text(number: float, text: str) -> None:
    assert dumps(number) == text
    assert dumps({"a": [1.5, (number,)], "b": "é"}) == f'{{"a":[1.5,[{text}]],"b":"é"}}'
    assert dumps(["\ud800", number]) == f'["\\ud800",{text}]', "together with what has no UTF-8 form"


def _circle() -> list[Any]:
    circle: list[Any] = []
    circle.append({"again": circle})
    return circle


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


class _Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        b"bytes",
        object(),
        datetime(2020, 1, 1, tzinfo=UTC),
        Decimal("1.5"),
        1j,
        _Colour.RED,
        {"deep": [{"down": {1}}]},
        iter([1]),
        _circle(),
        _deep(),
        10**4300,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_json_is_the_blocks_bug(value: Any) -> None:
    with pytest.raises(BlockBug, match="not a JSON value"):
        dumps(value)


@pytest.mark.parametrize("key", [1, 1.5, True, None, math.nan, (1, 2), b"key"], ids=repr)
@pytest.mark.parametrize("wrap", [lambda inner: inner, lambda inner: {"a": [inner]}, lambda inner: (math.inf, inner)])
def test_a_key_that_is_no_text_is_refused_and_not_turned_into_one(key: Any, wrap: Any) -> None:
    with pytest.raises(BlockBug, match="not a JSON value"):
        dumps(wrap({key: "value"}))


def test_two_keys_never_become_one() -> None:
    with pytest.raises(BlockBug):
        dumps({1: "a", "1": "b"})


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(json.JSONDecodeError):
        loads("{")


def test_what_a_block_does_to_the_json_module_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("loads", "dumps"):
        monkeypatch.setattr(json, name, lambda *_: "patched")
    assert loads(dumps({"a": [1]})) == {"a": [1]}


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}, lambda inner: (inner,)])
def test_what_was_written_can_be_read_by_whoever_stands_in_a_deep_stack(wrap: Any) -> None:
    value: Any = 0
    for _ in range(MAX_DEPTH):
        value = wrap(value)
    text = dumps(value)

    def deeper(frames: int) -> Any:
        return loads(text) if frames == 0 else deeper(frames - 1)

    assert deeper(100)
    with pytest.raises(BlockBug, match=f"deeper than {MAX_DEPTH} levels"):
        dumps(wrap(value))
