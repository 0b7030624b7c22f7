"""What examples alone do not show of the plain blocks."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.blocks import registry
from agentflow.blocks.trial import collect
from agentflow.errors import BadInput
from agentflow.graph.json_values import number_if_numeric, same

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=8,
)


def run(block: str, /, **inputs: Any) -> list[tuple[str, Any]]:
    return collect(registry.by_name(block), inputs)


@given(st.sampled_from(["Add", "Subtract", "Multiply", "Divide", "Power"]), st.floats(), st.floats(), st.booleans())
def test_the_calculator_always_gives_one_number(operation: str, a: float, b: float, rounded: bool) -> None:
    [(pin, result)] = run("Calculator", operation=operation, a=a, b=b, round_result=rounded)
    assert (pin, type(result)) == ("result", float)


@pytest.mark.parametrize(
    ("operation", "a", "b"), [("Power", -8, 0.5), ("Power", 10, 1000), ("Add", math.inf, -math.inf), ("Power", 0, -1)]
)
def test_what_has_no_result_is_not_a_finite_number(operation: str, a: float, b: float) -> None:
    [(_, result)] = run("Calculator", operation=operation, a=a, b=b)
    assert not math.isfinite(result)


@given(st.lists(json_values, max_size=30), st.integers(1, 7))
def test_the_chunks_of_a_list_are_the_list(values: list[Any], size: int) -> None:
    chunks = [chunk for _, chunk in run("CreateList", values=values, max_size=size)]
    assert [value for chunk in chunks for value in chunk] == values
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert len(chunks[-1]) <= size


@given(st.lists(json_values, max_size=9), st.integers(-12, 12), json_values)
def test_list_blocks_do_not_change_the_list_that_they_are_given(items: list[Any], index: int, value: Any) -> None:
    before = list(items)
    for name, inputs in (
        ("AddToList", {"entry": value, "position": index}),
        ("RemoveFromList", {"index": index}),
        ("ReplaceListItem", {"index": index, "value": value}),
        ("GetListItem", {"index": index}),
    ):
        if name == "AddToList" or -len(items) <= index < len(items):
            run(name, list=items, **inputs)
        else:
            with pytest.raises(BadInput, match="Index out of range"):
                run(name, list=items, **inputs)
    assert items == before


@given(json_values)
def test_every_value_equals_itself(value: Any) -> None:
    assert same(value, value)


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        (1, 1.0, True), (1, True, False), (0, False, False), ("1", 1, False), (None, False, False),
        ([1], [True], False),
        ({"a": [1]}, {"a": [1.0]}, True), ({"a": 1}, {"a": 1, "b": 2}, False), ([1, 2], [1], False),
    ],
)  # fmt: skip
def test_values_are_equal_as_in_json(first: Any, second: Any, equal: bool) -> None:
    assert same(first, second) is equal
    assert same(second, first) is equal


@pytest.mark.parametrize(
    ("text", "number"),
    [("5", 5), (" 5.5 ", 5.5), ("-1e3", -1000.0), ("9007199254740993", 9007199254740993), ("Infinity", math.inf)],
)
def test_texts_that_mean_numbers_are_numbers(text: str, number: float) -> None:
    assert number_if_numeric(text) == number


@pytest.mark.parametrize("value", ["", "five", "1_000", "nan", "0x10", None, [], True])
def test_other_values_stay_as_they_are(value: Any) -> None:
    assert number_if_numeric(value) is value


@pytest.mark.parametrize("deep", ["[" * 100_000, '{"a":' * 100_000])
def test_json_text_that_is_nested_too_deep_does_no_harm(deep: str) -> None:
    assert run("FindInDictionary", input=deep, key="a") == [("missing", deep)]
    with pytest.raises(BadInput, match="not JSON"):
        run("StepThroughItems", items_str=deep)


def test_a_dropdowns_options_do_not_restrict_its_value() -> None:
    """As in the platform whose graphs these are: the options are what people are shown."""
    assert run("AgentDropdownInput", name="size", value="L", options=["S", "M"]) == [("result", "L")]


def test_the_tenth_thousandth_item_is_still_stepped_through() -> None:
    outputs = run("StepThroughItems", items=list(range(10_000)))
    assert outputs[-2:] == [("item", 9999), ("key", 9999)]


PARSES_OR_MATCHES = [
    "AgentOutput", "CodeExtraction", "CombineTexts", "Condition", "DataSampling", "ExtractTextInformation", "FileRead",
    "FillTextTemplate", "FindInDictionary", "FindInList", "FlattenList", "IfInputMatches", "ListDifference",
    "ListIntersection", "MatchTextPattern", "ReadSpreadsheet", "RemoveFromList", "StepThroughItems", "TextDecoder",
    "TextEncoder", "TextReplace", "TextSplit", "UniversalTypeConverter", "WordCharacterCount", "XMLParser",
]  # fmt: skip


@pytest.mark.parametrize("name", PARSES_OR_MATCHES)
def test_what_parses_templates_or_matches_holds_no_worker_for_an_hour(name: str) -> None:
    timeout = registry.by_name(name).timeout
    assert timeout is not None
    assert timeout <= 60
