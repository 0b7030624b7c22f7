"""A path names one place in a payload or none, and a condition holds of it or not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.triggers.filters import MAX_PATH, MISSING, Condition, Operator, first_unmet, read

ORDER = {
    "id": 7,
    "total": 120.5,
    "paid": True,
    "none": None,
    "items": [{"sku": "a"}, {"sku": "b"}],
    "tags": ["new", 1],
    "unit price": {"it's": "x", "größe": "L"},
    "kind": "order",
}

NAMES = st.text(st.characters(exclude_characters="'\\", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


def places(value, path="$"):
    """Every place in a value, with its path."""
    yield path, value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, f"{path}['{name}']")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from places(inner, f"{path}[{number}]")
            yield from places(inner, f"{path}[{number - len(value)}]")


@given(VALUES)
def test_each_place_is_found_by_its_path(value):
    for path, found in places(value):
        if len(path) <= MAX_PATH:
            assert read(path, value) is found


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", ORDER),
        ("$.items[0].sku", "a"),
        ("$.items[-1]['sku']", "b"),
        ("$['unit price'][\"it's\"]", "x"),
        ("$['unit price']['größe']", "L"),
        ("$.none", None),
        ("$.items[2]", MISSING),
        ("$.items[-3]", MISSING),
        ("$.items.length", MISSING),
        ("$.kind[0]", MISSING),
        ("$.tags['0']", MISSING),
        ("$.none.more", MISSING),
    ],
)
def test_a_path_is_read_as_written(path, found):
    assert read(path, ORDER) is found or read(path, ORDER) == found


@pytest.mark.parametrize(
    "path",
    ["", "a", ".a", "$a", "$.", "$..a", "$.*", "$[*]", "$[0:1]", "$[?@.a]", "$.a b", "$[01]", "$['a", "$['']", "$.a\n",
     "$['a\\u0041']", "$[0,1]", "$.é", "$" + ".a" * 300, "$[9999999999]", "$[- 1]"],
)  # fmt: skip
def test_what_names_no_single_place_is_no_path(path):
    with pytest.raises(ValueError, match="a path is written as"):
        read(path, ORDER)


@pytest.mark.parametrize(
    ("path", "operator", "value", "holds"),
    [
        ("$.id", "equals", 7, True),
        ("$.id", "equals", 7.0, True),
        ("$.id", "equals", "7", False),
        ("$.paid", "equals", 1, False),
        ("$.none", "equals", None, True),
        ("$.gone", "equals", None, False),
        ("$.gone", "not_equals", None, True),
        ("$.id", "not_equals", 7, False),
        ("$.kind", "in", ["offer", "order"], True),
        ("$.paid", "in", [1], False),
        ("$.gone", "not_in", [1], True),
        ("$.id", "not_in", [7], False),
        ("$.kind", "contains", "rde", True),
        ("$.tags", "contains", 1, True),
        ("$.tags", "contains", True, False),
        ("$.items", "contains", {"sku": "b"}, True),
        ("$['unit price']", "contains", "it's", True),
        ("$.id", "contains", "7", False),
        ("$.kind", "contains", 1, False),
        ("$.total", "above", 120, True),
        ("$.total", "above", 120.5, False),
        ("$.total", "below", "999", False),
        ("$.kind", "above", "offer", True),
        ("$.paid", "below", 5, False),
        ("$.gone", "below", 5, False),
        ("$.none", "exists", None, True),
        ("$.gone", "exists", None, False),
        ("$.gone", "absent", None, True),
        ("$.id", "absent", None, False),
    ],
)
def test_a_condition_compares_as_its_operator_says(path, operator, value, holds):
    assert Condition(path, Operator(operator), value).holds(ORDER) is holds


def test_the_first_condition_that_does_not_hold_is_told():
    id, kind, gone = (
        Condition(path, Operator.EQUALS, value) for path, value in (("$.id", 7), ("$.kind", "x"), ("$.gone", 1))
    )
    assert first_unmet([], ORDER) is None
    assert first_unmet([id], ORDER) is None
    assert first_unmet([id, kind, gone], ORDER) is kind


def test_every_operator_is_tried_here_and_deep_values_are_read():
    deep = json.loads('{"a":' * 90 + "1" + "}" * 90)
    assert read("$" + ".a" * 90, deep) == 1
    assert len(Operator) == 9
