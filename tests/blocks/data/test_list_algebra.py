"""The laws of the blocks that make one list of several."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.blocks import registry
from agentflow.blocks.trial import collect
from agentflow.errors import BadInput
from agentflow.graph.json_values import same

values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 1.5]) | st.text("ab", max_size=1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=1), inner, max_size=2),
    max_leaves=6,
)
lists = st.lists(values, max_size=8)


def run(block: str, /, **inputs: Any) -> dict[str, Any]:
    outputs = dict(collect(registry.by_name(block), inputs))
    [result] = [value for pin, value in outputs.items() if pin not in ("length", "original_depth")]
    assert outputs["length"] == len(result)
    return {**outputs, "result": result}


def has(items: list[Any], value: Any) -> bool:
    return any(same(item, value) for item in items)


def once(items: list[Any]) -> list[Any]:
    kept: list[Any] = []
    for item in items:
        if not has(kept, item):
            kept.append(item)
    return kept


def exactly(first: Any, second: Any) -> bool:
    return repr(first) == repr(second)  # == takes True for 1


@given(st.lists(lists | st.none(), max_size=4), st.booleans(), st.booleans())
def test_concatenated_lists_hold_all_items_in_order(parts: list[list[Any] | None], dedup: bool, no_none: bool) -> None:
    expected = [item for part in parts if part is not None for item in part if not (no_none and item is None)]
    result = run("ConcatenateLists", lists=parts, deduplicate=dedup, remove_none=no_none)["result"]
    assert exactly(result, once(expected) if dedup else expected)


@given(lists, lists)
def test_difference_and_intersection_are_what_comparing_each_with_each_gives(a: list[Any], b: list[Any]) -> None:
    only_a, only_b = [x for x in a if not has(b, x)], [x for x in b if not has(a, x)]
    assert exactly(run("ListDifference", list_a=a, list_b=b)["result"], only_a)
    assert exactly(run("ListDifference", list_a=a, list_b=b, symmetric=True)["result"], only_a + only_b)
    assert exactly(run("ListIntersection", list_a=a, list_b=b)["result"], once([x for x in a if has(b, x)]))


@given(lists)
def test_a_list_that_is_flattened_level_by_level_becomes_flat(items: list[Any]) -> None:
    flat = run("FlattenList", nested_list=items)
    assert not any(isinstance(item, list) for item in flat["result"])
    for _ in range(flat["original_depth"] - 1):
        items = run("FlattenList", nested_list=items, max_depth=1)["result"]
    assert exactly(items, flat["result"])


@given(st.lists(lists, max_size=4), values)
def test_zipped_lists_have_an_item_of_each_list(parts: list[list[Any]], fill: Any) -> None:
    short = run("ZipLists", lists=parts)["result"]
    padded = run("ZipLists", lists=parts, pad_to_longest=True, fill_value=fill)["result"]
    assert len(short) == min(map(len, parts), default=0)
    assert len(padded) == max(map(len, parts), default=0)
    assert exactly(padded[: len(short)], short)
    for place, row in enumerate(padded):
        assert exactly(row, [part[place] if place < len(part) else fill for part in parts])


@given(st.lists(lists, max_size=4))
def test_interleaved_lists_keep_every_item_and_the_order_of_each_list(parts: list[list[Any]]) -> None:
    turns = sorted((place, number) for number, part in enumerate(parts) for place in range(len(part)))
    expected = [parts[number][place] for place, number in turns]
    assert exactly(run("InterleaveLists", lists=parts)["result"], expected)


def deep(levels: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(levels):
        made = [made]
    return made


def test_lists_that_are_nested_very_deep_are_flattened() -> None:
    assert run("FlattenList", nested_list=deep(50_000))["original_depth"] == 50_001


def test_what_is_nested_too_deep_to_be_compared_is_refused() -> None:
    with pytest.raises(BadInput, match="nested too deep"):
        run("ListDifference", list_a=[deep(50_000)], list_b=[1])
