"""Estimates are never below what a step really makes, save for a small constant."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agentflow.blocks.text import growth

SLACK = 64
"""Characters that an estimate may be short of: quotes, brackets, padding of numbers."""

texts = st.text(alphabet="ab \t\n.", max_size=30)
small = st.integers(0, 50)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


@given(texts | st.lists(small, max_size=9), texts | st.lists(small, max_size=9), small)
def test_operators_on_texts_and_lists(left: Any, right: Any, times: int) -> None:
    assert growth.of_operator("*", left, times) >= len(left * times)
    assert growth.of_operator("*", times, left) >= len(left * times)
    if type(left) is type(right):
        assert growth.of_operator("+", left, right) >= len(left + right)


@given(st.integers(-(10**30), 10**30), st.integers(0, 40))
def test_operators_on_numbers(base: int, exponent: int) -> None:
    assert growth.of_operator("**", base, exponent) + SLACK >= len(str(base**exponent))
    assert growth.of_operator("*", base, base) + SLACK >= len(str(base * base))


@given(texts, texts, texts, small)
def test_methods_of_texts(text: str, old: str, new: str, width: int) -> None:
    for made, function, arguments in (
        (text.replace(old, new), text.replace, (old, new)),
        (text.center(width), text.center, (width,)),
        (text.zfill(width), text.zfill, (width,)),
        (text.expandtabs(width), text.expandtabs, (width,)),
        (text.join([old, new]), text.join, ([old, new],)),
        (text.translate({97: new}), text.translate, ({97: new},)),
    ):
        assert growth.of_call(function, arguments, {}) >= len(made)


@given(texts, small)
def test_formats(text: str, width: int) -> None:
    template = f"{{0:>{width}}}{{0}}{{a}}"
    assert growth.of_call(template.format, (text,), {"a": text}) >= len(template.format(text, a=text))
    percent = f"%{width}s%s"
    assert growth.of_operator("%", percent, (text, text)) >= len(percent % (text, text))


@given(json_values)
def test_the_weight_of_a_value_is_about_its_text(value: Any) -> None:
    # Escapes in a list's text can double or quadruple a character.
    assert growth.weight(value) * 4 + SLACK >= len(str(value))


def test_one_text_counts_as_often_as_it_would_be_written() -> None:
    text = "x" * 1000
    assert growth.weight([text] * 1000) >= 1_000_000
    assert growth.weight([[text] * 1000] * 1000, limit=10_000) < 20_000  # it stops counting


def test_what_only_looks_is_not_estimated() -> None:
    assert growth.of_call(len, ("x",), {}) == 0
    assert growth.of_call("x".startswith, ("x",), {}) == 0
    assert growth.of_call({"a": 1}.get, ("a",), {}) == 0


def test_other_methods_make_as_much_as_they_were_given() -> None:
    assert growth.of_call("xyz".upper, (), {}) == 3
    assert growth.of_call([1, 2].copy, (), {}) == 2
    assert growth.of_call(dict, ({"a": 1},), {"b": "xy"}) == 3


@given(st.lists(st.lists(small, max_size=9), max_size=9))
def test_lists_that_are_added_up_count_as_often_as_they_are_copied(lists: list[list[int]]) -> None:
    copied = sum(sum(map(len, lists[: place + 1])) for place in range(len(lists)))
    assert growth.of_filter("sum", lists, (), {"start": []}) >= copied
