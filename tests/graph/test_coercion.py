"""Coercion to the types of pins."""

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Optional, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, JsonValue, SecretStr

from agentflow.graph.coercion import coerce, coercible, item_annotation


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Point(BaseModel):
    x: int
    label: str = ""


@pytest.mark.parametrize(
    ("value", "annotation", "result"),
    [
        # to text
        ("as it is", str, "as it is"),
        (1, str, "1"),
        (1.5, str, "1.5"),
        (True, str, "true"),
        ({"é": [1, None]}, str, '{"é": [1, null]}'),
        ([], str, "[]"),
        (False, str, "false"),
        (10**30, str, "1" + "0" * 30),
        ([None, None], list[str], ["null", "null"]),
        (7, SecretStr, "7"),
        # to whole numbers
        (7, int, 7),
        ("12", int, 12),
        (" 12 ", int, 12),
        ("12.9", int, 12),
        ("-12.9", int, -12),
        ("3.0", int, 3),
        ("1e3", int, 1000),
        ("123456789012345678901234567890", int, 123456789012345678901234567890),
        (3.9, int, 3),
        (-3.9, int, -3),
        (1e30, int, 10**30 + 19884624838656),
        (True, int, 1),
        (False, int, 0),
        ("twelve", int, 0),
        ("true", int, 0),
        ("1,5", int, 0),
        ("9" * 5000, int, 0),
        ("1e400", int, 0),
        ("", int, 0),
        ("NaN", int, 0),
        ("Infinity", int, 0),
        (math.inf, int, 0),
        ([1, 2, 3], int, 3),
        ({"a": 1}, int, 1),
        ({5, 6}, int, 2),
        ([], int, 0),
        ([None], list[int], [0]),
        # to floats
        (7, float, 7.0),
        (True, float, 1.0),
        ("-1e-3", float, -0.001),
        (str(10**400), float, 0.0),
        ({"a": 1, "b": 2}, float, 2.0),
        ({5, 6, 7}, float, 3.0),
        ("1.5", float, 1.5),
        ("Infinity", float, math.inf),
        ("-Infinity", float, -math.inf),
        ("x", float, 0.0),
        (10**400, float, 0.0),
        ([1, 2], float, 2.0),
        # to booleans
        ("true", bool, True),
        ("TRUE", bool, True),
        ("tRuE", bool, True),
        ("1", bool, True),
        ("yes", bool, False),
        ("on", bool, False),
        ("1.0", bool, False),
        ("[1]", bool, False),
        ("0", bool, False),
        (0.0, bool, False),
        (0.1, bool, True),
        (-1, bool, True),
        ({}, bool, False),
        ({"a": 0}, bool, True),
        ([None, "True"], list[bool], [False, True]),
        ("false", bool, False),
        ("", bool, False),
        (0, bool, False),
        (2, bool, True),
        ([], bool, False),
        ([0], bool, True),
        # to lists
        ([1, 2], list, [1, 2]),
        ({"a": 1, "b": 2}, list, [["a", 1], ["b", 2]]),
        ("[1, 2]", list, [1, 2]),
        (" [1] ", list, [1]),
        ("[1, 2", list, ["[1, 2"]),
        ("[no json]", list, ["[no json]"]),
        ("text", list, ["text"]),
        ("", list, [""]),
        ("1, 2", list, ["1, 2"]),
        ('{"a": 1}', list, ['{"a": 1}']),
        ("[]", list, []),
        ("['a']", list, ["['a']"]),
        (5, list, [5]),
        (False, list, [False]),
        ({7}, list, [7]),
        ({}, list, []),
        ({"a": "1"}, list[list[str]], [["a", "1"]]),
        ("5", list[int], [5]),
        ('["1", "x", 2.5]', list[int], [1, 0, 2]),
        ([["1"], ["2", "3"]], list[list[int]], [[1], [2, 3]]),
        ([{"a": "1"}, '{"b": 2}'], list[dict[str, int]], [{"a": 1}, {"b": 2}]),
        (["1", 2], list[Literal["1", "2"]], ["1", "2"]),
        (["1", 2.5, "x"], list[int], [1, 2, 0]),
        ("[1, 2]", list[str], ["1", "2"]),
        (["1"], Sequence[int], [1]),
        (["1", "2"], set[int], [1, 2]),
        (["1", "2"], tuple[int, ...], [1, 2]),
        (["1", "2"], tuple[int, str], ["1", "2"]),
        ([[1], "[2]", 3], list[list[str]], [["1"], ["2"], ["3"]]),
        ([None], list[str | None], [None]),
        # to dictionaries
        ({"a": 1}, dict, {"a": 1}),
        ('{"a": 1}', dict, {"a": 1}),
        ("{no json}", dict, {"value": "{no json}"}),
        ("text", dict, {"value": "text"}),
        (5, dict, {"value": 5}),
        (["x", "y"], dict, {"0": "x", "1": "y"}),
        ("[1]", dict, {"value": "[1]"}),
        ("", dict, {"value": ""}),
        (True, dict, {"value": True}),
        ([], dict, {}),
        (["1", "x"], dict[str, int], {"0": 1, "1": 0}),
        ("5", dict[str, int], {"value": 5}),
        ('{"a": "1.5"}', dict[str, float], {"a": 1.5}),
        ({"a": ["1"], "b": "2"}, dict[str, list[int]], {"a": [1], "b": [2]}),
        ({"a": "1"}, dict[str, int], {"a": 1}),
        ({"a": 1}, Mapping[str, str], {"a": "1"}),
        ({"a": [1]}, dict[str, list[str]], {"a": ["1"]}),
        # unions
        (None, int | None, None),
        ("5", int | None, 5),
        ("x", int | None, 0),
        ("5", list[int] | None, [5]),
        ("true", bool | None, True),
        ("1.5", dict[str, float] | None, {"value": 1.5}),
        ("[1]", list | str, "[1]"),
        ("x", int | float | str, "x"),
        ([1, 2], int | float, 2),
        ({"a": None}, dict[str, int | None], {"a": None}),
        ("5", Optional[int], 5),  # noqa: UP045
        ("5", Union[int, str], "5"),  # noqa: UP007
        (5, str | int, 5),
        (True, int | str, 1),
        ("x", int | list[str], ["x"]),
        (["x"], str | list[str], ["x"]),
        ([5], str | list[str], "[5]"),
        ([], str | list[str], []),
        ({"a": 1}, list[int] | dict[str, int], {"a": 1}),
        ({"a": "1"}, list[str] | dict[str, int], ['["a", "1"]']),
        (5, str | float, 5.0),
        (5.5, int | str, 5),
        ("5", float | int, 5.0),
        (True, str | bool, True),
        ("x", int | float | bool, False),
        ("red", int | Literal["red"], "red"),
        (None, int | str, None),
        ([None, "5"], list[int | None], [None, 5]),
        (5, list[str] | dict[str, int], ["5"]),
        # anything
        ({"a": 1}, Any, {"a": 1}),
        (None, Any, None),
        ("[1]", Any, "[1]"),
        ([None, "5", 5.5], list[Any], [None, "5", 5.5]),
        ({"a": [True]}, dict[str, Any], {"a": [True]}),
        ("5", JsonValue, "5"),
        ("5", Annotated[int, Field(gt=0)], 5),
        # choices
        ("red", Literal["red", "blue"], "red"),
        (1, Literal["1", "2"], "1"),
        ("1", Literal[1, 2], 1),
        ("green", Literal["red"], "green"),
        ("red", Colour, "red"),
        ("green", Colour, "green"),
        # nested models, and what coercion leaves alone
        ({"x": "5", "label": 7, "more": 1}, Point, {"x": 5, "label": "7", "more": 1}),
        ('{"x": "5"}', Point, {"x": 5}),
        ("no point", Point, "no point"),
        ([{"x": "5"}], list[Point], [{"x": 5}]),
        ("2024-02-29", date, "2024-02-29"),
        ("2024-02-29T12:00:00Z", datetime, "2024-02-29T12:00:00Z"),
        (5, date, 5),
        # a None given to a whole pin is not given
        (None, str, None),
        (None, list[int], None),
    ],
)
def test_values_become_what_the_pin_declares(value: Any, annotation: Any, result: Any) -> None:
    coerced = coerce(value, annotation)
    assert coerced == result
    assert type(coerced) is type(result)


def test_not_a_number_is_read_back() -> None:
    assert math.isnan(coerce("NaN", float))


@pytest.mark.parametrize(
    ("value", "annotation", "fits"),
    [
        ("12", int, True),
        ("twelve", int, False),
        (None, int, False),
        (None, int | None, True),
        ("Infinity", int, False),
        ("Infinity", float, True),
        (10**400, float, False),
        ([1, 2], int, True),
        ("yes", bool, True),
        ({"a": 1}, str, True),
        (["1", "x"], list[int], False),
        ({"a": "x"}, dict[str, int], False),
        ("x", dict[str, int], False),
        ("x", int | float, False),
        ("x", int | str, True),
        ("green", Literal["red"], False),
        ("green", Colour, False),
        ("blue", Colour, True),
        ({"x": 1}, Point, True),
        ({"label": "no x"}, Point, False),
        ("2024-02-29", date, True),
        ("2023-02-29", date, False),
        (object(), Any, True),
    ],
)
def test_what_would_have_to_be_made_up_is_not_coercible(value: Any, annotation: Any, fits: bool) -> None:
    assert coercible(value, annotation) is fits


@pytest.mark.parametrize(
    ("annotation", "kind", "item"),
    [
        (list[int], "$", int),
        (dict[str, int], "#", int),
        (dict[str, int], "@", int),
        (list[int] | None, "$", int),
        (Annotated[list[int], "x"], "$", int),
        (list, "$", Any),
        (list[int], "#", Any),
        (str, "$", Any),
    ],
)
def test_the_type_inside_a_container(annotation: Any, kind: str, item: Any) -> None:
    assert item_annotation(annotation, kind) == item


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
annotations = st.recursive(
    st.sampled_from([str, int, float, bool, list, dict, Any, type(None), Colour, Point, date, Literal["a", 1]]),
    lambda inner: st.one_of(
        inner.map(lambda item: list[item]),  # type: ignore[valid-type]
        inner.map(lambda item: dict[str, item]),  # type: ignore[valid-type]
        st.tuples(inner, inner).map(lambda pair: Union[pair[0], pair[1], None]),  # noqa: UP007
    ),
    max_leaves=4,
)


@given(value=json_values, annotation=annotations)
def test_coercion_never_raises(value: Any, annotation: Any) -> None:
    coerce(value, annotation)
    coercible(value, annotation)


@pytest.mark.parametrize("annotation", [str, int, float, bool, list, dict, list[int], dict[str, float]])
@given(value=json_values)
def test_coercing_twice_changes_nothing_more(annotation: Any, value: Any) -> None:
    once = coerce(value, annotation)
    assert coerce(once, annotation) == once


@given(value=json_values)
def test_coercion_leaves_what_it_was_given_as_it_was(value: Any) -> None:
    before = repr(value)
    for annotation in (list[str], dict[str, int], Point, list[dict[str, str]]):
        coerce(value, annotation)
    assert repr(value) == before
