"""Makes one list of several, or of a nested one, without changing the given lists.

Items are compared as in JSON (`json_values.same`): 1 equals 1.0, but True does not equal 1. A null in place of a list
is ignored, because a branch of a graph may have given nothing.
"""

from collections.abc import Hashable, Iterable, Iterator
from itertools import zip_longest
from typing import Any

from pydantic import Field

from agentflow.blocks.base import WORK_SECONDS, Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.errors import BadInput

Items = list[Any]

_NOTHING: Any = object()


class ConcatenateLists(Block):
    id = "3cf9298b-5817-4141-9d80-7c2cc5199c8e"
    name = "ConcatenateLists"
    description = "Joins several lists into one, optionally without repetitions and nulls."
    timeout = WORK_SECONDS

    class Input(BlockInput):
        lists: list[Items | None] = Field(description="The lists.")
        deduplicate: bool = Field(False, description="Keep only the first of equal items.")
        remove_none: bool = Field(False, description="Leave out nulls.")

    class Output(BlockOutput):
        concatenated_list: Items = Field(description="All items.")
        length: int = Field(description="How many items it has.")

    vectors = (
        TestVector({"lists": [[1, 2], [3], []]}, [("concatenated_list", [1, 2, 3]), ("length", 3)]),
        TestVector({"lists": [[1], None, [2]]}, [("concatenated_list", [1, 2]), ("length", 2)]),
        TestVector(
            {"lists": [[1, True, {"a": 1}], [1.0, {"a": 1}, True]], "deduplicate": True},
            [("concatenated_list", [1, True, {"a": 1}]), ("length", 3)],
        ),
        TestVector({"lists": [[None, 0], [None]], "remove_none": True}, [("concatenated_list", [0]), ("length", 1)]),
        TestVector({"lists": []}, [("concatenated_list", []), ("length", 0)]),
        TestVector({"lists": [[1], "x"]}, fails="lists.1"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        items = [item for part in _present(inputs.lists) for item in part]
        if inputs.remove_none:
            items = [item for item in items if item is not None]
        if inputs.deduplicate:
            items = _without_repetitions(items)
        yield "concatenated_list", items
        yield "length", len(items)


class FlattenList(Block):
    id = "cc45bb0f-d035-4756-96a7-fe3e36254b4d"
    name = "FlattenList"
    description = "Replaces the lists in a list by their items, through all levels or a number of them."
    timeout = WORK_SECONDS

    class Input(BlockInput):
        nested_list: Items = Field(description="The list.")
        max_depth: int = Field(-1, ge=-1, description="Levels to take away; -1: all.")

    class Output(BlockOutput):
        flattened_list: Items = Field(description="The flatter list.")
        length: int = Field(description="How many items it has.")
        original_depth: int = Field(description="Levels of lists there were; 1: it was flat.")

    vectors = (
        TestVector(
            {"nested_list": [1, [2, [3, [4]]], []]},
            [("flattened_list", [1, 2, 3, 4]), ("length", 4), ("original_depth", 4)],
        ),
        TestVector(
            {"nested_list": [1, [2, [3, [4]]]], "max_depth": 1},
            [("flattened_list", [1, 2, [3, [4]]]), ("length", 3), ("original_depth", 4)],
        ),
        TestVector(
            {"nested_list": [1, [2]], "max_depth": 0},
            [("flattened_list", [1, [2]]), ("length", 2), ("original_depth", 2)],
        ),
        TestVector({"nested_list": []}, [("flattened_list", []), ("length", 0), ("original_depth", 1)]),
        TestVector({"nested_list": [1], "max_depth": -2}, fails="max_depth"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        items = list(_flattened(inputs.nested_list, inputs.max_depth))
        yield "flattened_list", items
        yield "length", len(items)
        yield "original_depth", _depth(inputs.nested_list)


class ZipLists(Block):
    id = "0d0e684f-5cb9-4c4b-b8d1-47a0860e0c07"
    name = "ZipLists"
    description = "Groups the items at the same position of several lists, in one list per position."

    class Input(BlockInput):
        lists: list[Items | None] = Field(description="The lists.")
        pad_to_longest: bool = Field(False, description="Go on to the end of the longest list, not of the shortest.")
        fill_value: Any = Field(None, description="What stands for the missing items of shorter lists.")

    class Output(BlockOutput):
        zipped_list: list[Items] = Field(description="One list per position.")
        length: int = Field(description="How many items it has.")

    vectors = (
        TestVector({"lists": [[1, 2, 3], ["a", "b"]]}, [("zipped_list", [[1, "a"], [2, "b"]]), ("length", 2)]),
        TestVector(
            {"lists": [[1, 2], ["a"]], "pad_to_longest": True, "fill_value": "-"},
            [("zipped_list", [[1, "a"], [2, "-"]]), ("length", 2)],
        ),
        TestVector({"lists": [[1], []], "pad_to_longest": True}, [("zipped_list", [[1, None]]), ("length", 1)]),
        TestVector({"lists": []}, [("zipped_list", []), ("length", 0)]),
        TestVector({"lists": [1]}, fails="lists.0"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        lists = _present(inputs.lists)
        if inputs.pad_to_longest:
            zipped = [list(row) for row in zip_longest(*lists, fillvalue=inputs.fill_value)]
        else:
            zipped = [list(row) for row in zip(*lists, strict=False)]
        yield "zipped_list", zipped
        yield "length", len(zipped)


class InterleaveLists(Block):
    id = "9f616084-1d9f-4f8e-bc00-5b9d2a75cd75"
    name = "InterleaveLists"
    description = "Takes an item of each list in turn until all are used up."

    class Input(BlockInput):
        lists: list[Items | None] = Field(description="The lists.")

    class Output(BlockOutput):
        interleaved_list: Items = Field(description="All items.")
        length: int = Field(description="How many items it has.")

    vectors = (
        TestVector(
            {"lists": [[1, 2, 3], ["a"], [None, True]]},
            [("interleaved_list", [1, "a", None, 2, True, 3]), ("length", 6)],
        ),
        TestVector({"lists": [None, []]}, [("interleaved_list", []), ("length", 0)]),
        TestVector({"lists": [1]}, fails="lists.0"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        turns = zip_longest(*_present(inputs.lists), fillvalue=_NOTHING)
        items = [item for turn in turns for item in turn if item is not _NOTHING]
        yield "interleaved_list", items
        yield "length", len(items)


class ListDifference(Block):
    id = "05309873-9d61-447e-96b5-b804e2511829"
    name = "ListDifference"
    description = "Gives out the items of one list that are not in another; or those that are in only one of the two."
    timeout = WORK_SECONDS

    class Input(BlockInput):
        list_a: Items = Field(description="The list.")
        list_b: Items = Field(description="What to take away.")
        symmetric: bool = Field(False, description="Add the items of the second that are not in the first.")

    class Output(BlockOutput):
        difference: Items = Field(description="What is left, in its order.")
        length: int = Field(description="How many items it has.")

    vectors = (
        TestVector({"list_a": [1, 2, 2, 3], "list_b": [3, 4]}, [("difference", [1, 2, 2]), ("length", 3)]),
        TestVector({"list_a": [1, 2], "list_b": [2, 3], "symmetric": True}, [("difference", [1, 3]), ("length", 2)]),
        TestVector({"list_a": [1, True, [1]], "list_b": [1.0, [1]]}, [("difference", [True]), ("length", 1)]),
        TestVector({"list_a": [1]}, fails="list_b"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        left = _without(inputs.list_a, inputs.list_b)
        if inputs.symmetric:
            left += _without(inputs.list_b, inputs.list_a)
        yield "difference", left
        yield "length", len(left)


class ListIntersection(Block):
    id = "b6eb08b6-dbe3-411b-b9b4-2508cb311a1f"
    name = "ListIntersection"
    description = "Gives out what two lists have in common, each item once, in the order of the first."
    timeout = WORK_SECONDS

    class Input(BlockInput):
        list_a: Items = Field(description="The first list.")
        list_b: Items = Field(description="The second list.")

    class Output(BlockOutput):
        intersection: Items = Field(description="The common items.")
        length: int = Field(description="How many items it has.")

    vectors = (
        TestVector({"list_a": [3, 1, 2, 3], "list_b": [2, 3, 4]}, [("intersection", [3, 2]), ("length", 2)]),
        TestVector(
            {"list_a": [{"a": 1}, 1], "list_b": [True, {"a": 1.0}]}, [("intersection", [{"a": 1}]), ("length", 1)]
        ),
        TestVector({"list_a": [], "list_b": [1]}, [("intersection", []), ("length", 0)]),
        TestVector({"list_b": [1]}, fails="list_a"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        others = set(_keys(inputs.list_b))
        pairs = zip(inputs.list_a, _keys(inputs.list_a), strict=True)
        common = _without_repetitions([item for item, key in pairs if key in others])
        yield "intersection", common
        yield "length", len(common)


def _present(lists: list[Items | None]) -> list[Items]:
    return [part for part in lists if part is not None]


def _without_repetitions(items: Items) -> Items:
    """The first of each group of equal items, in order."""
    firsts: dict[Hashable, Any] = {}
    for item, key in zip(items, _keys(items), strict=True):
        firsts.setdefault(key, item)
    return list(firsts.values())


def _without(items: Items, others: Items) -> Items:
    taken = set(_keys(others))
    return [item for item, key in zip(items, _keys(items), strict=True) if key not in taken]


def _keys(items: Items) -> list[Hashable]:
    """A hashable key per item, equal for equal items. Comparing all pairs would take quadratic time."""
    try:
        return [_key(item) for item in items]
    except RecursionError:
        raise BadInput("an item is nested too deep to be compared") from None


def _key(value: Any) -> Hashable:
    if isinstance(value, list):
        return "list", tuple([_key(item) for item in value])
    if isinstance(value, dict):
        return "dict", frozenset([(name, _key(item)) for name, item in value.items()])
    return ("bool", value) if isinstance(value, bool) else value


def _flattened(items: Items, max_depth: int) -> Iterator[Any]:
    """The items through `max_depth` levels (-1: all). It uses its own stack, because lists may be nested deeply."""
    stack: list[Iterator[Any]] = [iter(items)]
    while stack:
        for item in stack[-1]:
            if isinstance(item, list) and (max_depth < 0 or len(stack) <= max_depth):
                stack.append(iter(item))
                break
            yield item
        else:
            stack.pop()


def _depth(items: Iterable[Any]) -> int:
    depth, level = 0, [items]
    while level:
        depth += 1
        level = [item for part in level for item in part if isinstance(item, list)]
    return depth
