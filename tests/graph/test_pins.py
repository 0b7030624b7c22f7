"""Dynamic pins and tool pins."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.graph.pins import (
    MAX_DEPTH,
    MAX_INDEX,
    MAX_PADDING,
    base_name,
    check_sink,
    enclosing,
    is_tool_pin,
    merge,
    select,
    split,
    tool_pin,
    tool_target,
)


@pytest.mark.parametrize(
    ("pin", "names"),
    [
        ("plain", ["plain"]),
        ("a_$_", ["a_$_"]),
        ("tools_^_n1_~_values_#_a", ["tools_^_n1_~_values_#_a"]),
        ("a_#_b_$_1_@_c", ["a_#_b_$_1_@_c", "a_#_b_$_1", "a_#_b", "a"]),
    ],
)
def test_a_pin_lies_in_the_pins_that_its_name_begins_with(pin: str, names: list[str]) -> None:
    assert list(enclosing(pin)) == names


@pytest.mark.parametrize(
    ("pin", "base"),
    [
        ("plain", "plain"),
        ("list_$_1", "list"),
        ("dict_#_key", "dict"),
        ("object_@_attr", "object"),
        ("a_#_b_$_1_@_c", "a"),
        ("a_$_", "a_$_"),
        ("_$_1", "_$_1"),
        ("a_#__#_b", "a_#__#_b"),
        ("a_b$c", "a_b$c"),
        ("tools", "tools"),
        ("tools_^_n1_~_values_#_a", "tools"),
    ],
)
def test_the_base_name_is_what_stands_before_the_first_delimiter(pin: str, base: str) -> None:
    assert base_name(pin) == base


@pytest.mark.parametrize(
    ("pin", "steps"),
    [
        ("a", []),
        ("a_$_1", ["$1"]),
        ("a_#_k", ["#k"]),
        ("a_@_x", ["@x"]),
        ("a_#_k_$_1_@_x_#_l", ["#k", "$1", "@x", "#l"]),
        ("a_$_1_$_2", ["$1", "$2"]),
        ("a_#_$_1", ["#$_1"]),
        ("a_$_#_k", ["$#_k"]),
        ("a_#_k_l", ["#k_l"]),
        ("a_#__k", ["#_k"]),
        ("a_#_ k ", ["# k "]),
        ("a_$_", []),
        ("_$_1", []),
        ("a_#_k_$_", []),
        ("a_#_k_#__$_1", []),
        ("a_#__#_k", []),
    ],
)
def test_a_name_is_read_from_the_left_by_the_earliest_delimiter(pin: str, steps: list[str]) -> None:
    base, found = split(pin)
    assert [kind + part for kind, part in found] == steps
    assert base == ("a" if steps else pin)


ROW = {"name": "Ada", "tags": ["x", {"deep": 1}], "none": None, "zero": 0}


@pytest.mark.parametrize(
    ("selector", "pin", "value", "fires", "selected"),
    [
        ("out", "out", 1, True, 1),
        ("out", "out", None, True, None),
        ("other", "out", 1, False, None),
        ("out_#_name", "out", ROW, True, "Ada"),
        ("out_@_name", "out", ROW, True, "Ada"),
        ("out_#_tags_$_1_#_deep", "out", ROW, True, 1),
        ("out_#_zero", "out", ROW, True, 0),
        ("out_#_none", "out", ROW, False, None),
        ("out_#_missing", "out", ROW, False, None),
        ("out_$_0", "out", ["first"], True, "first"),
        ("out_$_1", "out", ["first"], False, None),
        ("out_$_-1", "out", ["first"], False, None),
        ("out_$_x", "out", ["first"], False, None),
        ("out_$_²", "out", ["first"] * 3, False, None),
        ("out_$_0", "out", "text", False, None),
        ("out_#_0", "out", ["first"], False, None),
        ("out_@___class__", "out", "text", False, None),
        ("out_$_0", "out_$_0", "the pin is really called so", True, "the pin is really called so"),
        ("out_$_", "out", ["first"], False, None),
        ("out", "out_#_name", 1, False, None),
        ("tools_^_n_~_p", "tools_^_n_~_p", 1, True, 1),
        ("tools_^_n_~_p", "tools_^_m_~_p", 1, False, None),
        ("tools_^_n_~_p_#_k", "tools", {"k": 1}, False, None),
    ],
)
def test_a_link_fires_when_its_selector_finds_something(
    selector: str, pin: str, value: Any, fires: bool, selected: Any
) -> None:
    assert select(selector, pin, value) == (fires, selected)


@pytest.mark.parametrize(
    ("inputs", "built"),
    [
        ({"x": 1}, {}),
        ({"x_$_0": "a", "x_$_1": "b"}, {"x": ["a", "b"]}),
        ({"x_$_2": "c"}, {"x": [None, None, "c"]}),
        ({"x_#_a": 1, "x_#_b": 2}, {"x": {"a": 1, "b": 2}}),
        ({"x_@_a": 1, "x_#_b": 2}, {"x": {"a": 1, "b": 2}}),
        ({"x_#_a_$_1_@_b": 1}, {"x": {"a": [None, {"b": 1}]}}),
        ({"x": {"given": 1}, "x_#_a": 2}, {"x": {"given": 1, "a": 2}}),
        ({"x_#_a": 2, "x": {"given": 1}}, {"x": {"given": 1, "a": 2}}),
        ({"x": [7], "x_$_1": 8}, {"x": [7, 8]}),
        ({"x": None, "x_$_0": 8}, {"x": [8]}),
        ({"x": "text", "x_#_a": 8}, {"x": {"a": 8}}),
        ({"x_$_0": 1, "x_#_a": 2}, {"x": {"a": 2}}),
        ({"x_#_a": 2, "x_$_0": 1}, {"x": [1]}),
        ({"x_#_a": {"p": 1}, "x_#_a_#_q": 2}, {"x": {"a": {"p": 1, "q": 2}}}),
        ({"x_#_a_#_q": 2, "x_#_a": {"p": 1}}, {"x": {"a": {"p": 1}}}),
        ({"x_#_": 1, "_#_x": 2}, {}),
        ({"tools_^_n_~_x_#_a": 1}, {}),
    ],
)
def test_dynamic_keys_build_containers_beside_the_raw_keys(inputs: dict[str, Any], built: dict[str, Any]) -> None:
    before = copy.deepcopy(inputs)
    assert merge(inputs) == {**before, **built}
    assert inputs == before, "what was given is never changed"


@pytest.mark.parametrize(
    "pin", ["x_$_one", "x_$_-1", "x_$_1.0", "x_$_²", f"x_$_{MAX_INDEX + 1}", "x_$_" + "9" * 40, "x" + "_#_k" * 51]
)
def test_an_impossible_place_is_an_error_that_names_the_pin(pin: str) -> None:
    for refuse in (lambda: merge({pin: 1}), lambda: check_sink(pin)):
        with pytest.raises(ValueError, match="x_"):
            refuse()


def test_the_highest_index_and_the_deepest_name_are_allowed() -> None:
    assert len(merge({f"x_$_{MAX_INDEX}": 1})["x"]) == MAX_INDEX + 1
    assert "x" in merge({"x" + "_#_k" * MAX_DEPTH: 1})


def test_many_padded_lists_cannot_fill_the_memory() -> None:
    wide = {f"x{number}_$_{MAX_INDEX}": 1 for number in range(MAX_PADDING // MAX_INDEX + 1)}
    with pytest.raises(ValueError, match="gaps"):
        merge(wide)


def test_ten_thousand_keys_of_one_container_are_merged() -> None:
    merged = merge({"x": {"given": 0}, **{f"x_#_{number}": number for number in range(10_000)}})
    assert len(merged["x"]) == 10_001


@pytest.mark.parametrize(
    ("pin", "target"),
    [
        ("tools_^_n1_~_query", ("n1", "query")),
        ("tools_^_n1_~_values_#_a", ("n1", "values_#_a")),
        ("tools_^_n1", None),
        ("tools_^__~_x", None),
        ("tools", None),
        ("x", None),
    ],
)
def test_a_tool_pin_names_its_sink(pin: str, target: tuple[str, str] | None) -> None:
    assert tool_target(pin) == target
    assert is_tool_pin(pin) is pin.startswith("tools")
    if target:
        assert tool_pin(*target) == pin


names = st.text(st.characters(exclude_characters="_$#@~^", exclude_categories=["Cs"]), min_size=1, max_size=4)
steps = st.one_of(
    st.tuples(st.just("_$_"), st.integers(0, 9).map(str)), st.tuples(st.sampled_from(["_#_", "_@_"]), names)
)
dynamic_pins = st.tuples(names, st.lists(steps, min_size=1, max_size=3)).map(
    lambda drawn: drawn[0] + "".join(delimiter + part for delimiter, part in drawn[1])
)
values = st.recursive(
    st.integers() | st.text(max_size=3) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@given(inputs=st.dictionaries(names | dynamic_pins, values | st.none(), max_size=8))
def test_merging_never_loses_or_alters_a_raw_key(inputs: dict[str, Any]) -> None:
    before = copy.deepcopy(inputs)
    merged = merge(inputs)
    bases = {base_name(pin) for pin in inputs if base_name(pin) != pin}
    assert inputs == before
    assert {pin: value for pin, value in merged.items() if pin in inputs and pin not in bases} == {
        pin: value for pin, value in before.items() if pin not in bases
    }
    assert merged.keys() == inputs.keys() | bases


@given(pin=dynamic_pins, value=values)
def test_selecting_finds_what_merging_put(pin: str, value: Any) -> None:
    base = base_name(pin)
    assert select(pin, base, merge({pin: value})[base]) == (True, value)


@given(items=st.lists(values, min_size=1))
def test_a_list_taken_apart_and_put_together_is_the_same(items: list[Any]) -> None:
    parts = {f"x_$_{index}": select(f"x_$_{index}", "x", items)[1] for index in range(len(items))}
    assert merge(parts)["x"] == items


@given(entries=st.dictionaries(names, values, min_size=1))
def test_a_dictionary_taken_apart_and_put_together_is_the_same(entries: dict[str, Any]) -> None:
    parts = {f"x_#_{key}": select(f"x_#_{key}", "x", entries)[1] for key in entries}
    assert merge(parts)["x"] == entries


@given(selector=st.text(max_size=20) | dynamic_pins, pin=names, value=values)
def test_selecting_never_raises(selector: str, pin: str, value: Any) -> None:
    fires, selected = select(selector, pin, value)
    assert fires or selected is None
