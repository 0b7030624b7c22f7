"""Creates, changes and reads lists; changes are made to a copy, never to the given list."""

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from agentflow.blocks.base import WORK_SECONDS, Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.engine.codec import dumps
from agentflow.errors import BadInput
from agentflow.graph.json_values import same

Items = list[Any]
"""An alias for models with a pin called `list`, which hides the built-in type."""

_CHARACTERS_PER_TOKEN = 4
"""Characters of JSON text per token: the usual estimate for language models."""


class CreateList(Block):
    id = "a912d5c7-6e00-4542-b2a9-8034136930e4"
    name = "CreateList"
    description = "Makes a list of values; with a largest size, several lists, one after the other."

    class Input(BlockInput):
        values: Items = Field(description="The values.")
        max_size: int | None = Field(None, ge=1, description="Items per list, at most.")
        max_tokens: int | None = Field(None, ge=1, description="Tokens per list, at most (4 characters count as one).")

    class Output(BlockOutput):
        list: Items = Field(description="The list, or each of the lists.")

    vectors = (
        TestVector({"values": ["a", 1, None]}, [("list", ["a", 1, None])]),
        TestVector({"values": []}, [("list", [])]),
        TestVector({"values": [1, 2, 3, 4, 5], "max_size": 2}, [("list", [1, 2]), ("list", [3, 4]), ("list", [5])]),
        TestVector(
            {"values": ["x" * 40, "y" * 40, "z"], "max_tokens": 12}, [("list", ["x" * 40]), ("list", ["y" * 40, "z"])]
        ),
        TestVector(
            {"values": ["x" * 40, "y", "z"], "max_size": 2, "max_tokens": 10},
            [("list", ["x" * 40]), ("list", ["y", "z"])],
        ),
        TestVector({"values": ["x" * 40], "max_tokens": 1}, [("list", ["x" * 40])]),
        TestVector({"values": [1], "max_size": 0}, fails="max_size"),
        TestVector({"values": [1], "max_tokens": 0}, fails="max_tokens"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        for chunk in _chunks(inputs.values, inputs.max_size, inputs.max_tokens):
            context.stop_if_cancelled()
            yield "list", chunk


def _chunks(values: Items, max_size: int | None, max_tokens: int | None) -> Iterator[Items]:
    """Splits `values` into lists. An item above `max_tokens` gets its own list; no values give one empty list."""
    chunk: Items = []
    tokens = 0
    for value in values:
        cost = _tokens(value) if max_tokens else 0
        if chunk and ((max_size and len(chunk) >= max_size) or (max_tokens and tokens + cost > max_tokens)):
            yield chunk
            chunk, tokens = [], 0
        chunk.append(value)
        tokens += cost
    if chunk or not values:
        yield chunk


def _tokens(value: Any) -> int:
    text = value if isinstance(value, str) else dumps(value)
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


class AddToList(Block):
    id = "aeb08fc1-2fc1-4141-bc8e-f758f183a822"
    name = "AddToList"
    description = "Adds one or several entries to a list, at its end or at a position."

    class Input(BlockInput):
        list: Items = Field([], description="The list; left out: an empty one.")
        entry: Any = Field(None, description="One entry to add.")
        entries: Items = Field([], description="Several entries to add, before the one.")
        position: int | None = Field(None, description="Where to put them, from 0; left out: at the end.")

    class Output(BlockOutput):
        updated_list: Items = Field(description="The list with the entries.")

    vectors = (
        TestVector({"list": [1, 2], "entry": 3}, [("updated_list", [1, 2, 3])]),
        TestVector({"entry": "first"}, [("updated_list", ["first"])]),
        TestVector({"list": [1], "entry": 4, "entries": [2, 3]}, [("updated_list", [1, 2, 3, 4])]),
        TestVector({"list": [1, 4], "entries": [2, 3], "position": 1}, [("updated_list", [1, 2, 3, 4])]),
        TestVector({"list": [1, 5], "entry": 4, "entries": [2, 3], "position": 1}, [("updated_list", [1, 2, 3, 4, 5])]),
        TestVector({"list": [1, 3], "entry": 2, "position": -1}, [("updated_list", [1, 2, 3])]),
        TestVector({"list": [1], "entry": 2, "position": 9}, [("updated_list", [1, 2])]),
        TestVector({"list": [1], "entry": 0}, [("updated_list", [1, 0])]),
        TestVector({"list": [1]}, [("updated_list", [1])]),
        TestVector({"list": [1], "entry": 2, "position": "first"}, fails="position"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        added = [*inputs.entries, *([] if inputs.entry is None else [inputs.entry])]
        at = len(inputs.list) if inputs.position is None else inputs.position
        yield "updated_list", [*inputs.list[:at], *added, *inputs.list[at:]]


class RemoveFromList(Block):
    id = "d93c5a93-ac7e-41c1-ae5c-ef67e6e9b826"
    name = "RemoveFromList"
    description = "Removes an item from a list, by its index or by its value (the first that equals it)."
    timeout = WORK_SECONDS

    class Input(BlockInput):
        list: Items = Field(description="The list.")
        value: Any = Field(None, description="The value to remove.")
        index: int | None = Field(None, description="The index to remove, from 0; negative: from the end.")
        return_item: bool = Field(False, description="Give out the removed item too.")

    class Output(BlockOutput):
        updated_list: Items = Field(description="The list without the item.")
        removed_item: Any = Field(description="The removed item, if asked for.")

    vectors = (
        TestVector(
            {"list": [1, 2, 3], "index": 1, "return_item": True}, [("updated_list", [1, 3]), ("removed_item", 2)]
        ),
        TestVector({"list": ["a", "b", "a"], "value": "a"}, [("updated_list", ["b", "a"])]),
        TestVector({"list": [True, 1], "value": 1}, [("updated_list", [True])]),
        TestVector({"list": [1, 2, 3], "index": -1}, [("updated_list", [1, 2])]),
        TestVector({"list": [1, 2], "value": 1, "index": 1}, [("updated_list", [1])]),
        TestVector({"list": [1], "index": 5}, fails="Index out of range"),
        TestVector({"list": [1], "value": 2}, fails="Item not found"),
        TestVector({"list": [1]}, fails="neither a value nor an index"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        place = _removed_place(inputs)
        yield "updated_list", [*inputs.list[:place], *inputs.list[place + 1 :]]
        if inputs.return_item:
            yield "removed_item", inputs.list[place]


def _removed_place(inputs: RemoveFromList.Input) -> int:
    if inputs.index is not None:
        return place_of(inputs.list, inputs.index)
    if inputs.value is None:
        raise BadInput("there is neither a value nor an index to remove")
    place = _first(inputs.list, inputs.value)
    if place is None:
        raise BadInput("Item not found")
    return place


class GetListItem(Block):
    id = "262ca24c-1025-43cf-a578-534e23234e97"
    name = "GetListItem"
    description = "Gives out the item at an index of a list."

    class Input(BlockInput):
        list: Items = Field(description="The list.")
        index: int = Field(description="The index, from 0; negative: from the end.")

    class Output(BlockOutput):
        item: Any = Field(description="The item.")

    vectors = (
        TestVector({"list": ["a", "b", "c"], "index": 1}, [("item", "b")]),
        TestVector({"list": ["a", "b", "c"], "index": -1}, [("item", "c")]),
        TestVector({"list": [None], "index": 0}, [("item", None)]),
        TestVector({"list": [], "index": 0}, fails="Index out of range"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        yield "item", inputs.list[place_of(inputs.list, inputs.index)]


class FindInList(Block):
    id = "5e2c6d0a-1e37-489f-b1d0-8e1812b23333"
    name = "FindInList"
    description = "Finds the first item of a list that equals a value."
    timeout = WORK_SECONDS

    class Input(BlockInput):
        list: Items = Field(description="The list.")
        value: Any = Field(description="The value to find.")

    class Output(BlockOutput):
        index: int = Field(description="Where it is, from 0.")
        found: bool = Field(description="Whether it is there.")
        not_found_value: Any = Field(description="The value, if it is not there.")

    vectors = (
        TestVector({"list": ["a", "b"], "value": "b"}, [("index", 1), ("found", True)]),
        TestVector({"list": ["a", "b", "a"], "value": "a"}, [("index", 0), ("found", True)]),
        TestVector({"list": [1], "value": 2}, [("found", False), ("not_found_value", 2)]),
        TestVector({"list": [1]}, fails="value"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        place = _first(inputs.list, inputs.value)
        if place is None:
            yield "found", False
            yield "not_found_value", inputs.value
        else:
            yield "index", place
            yield "found", True


class ReplaceListItem(Block):
    id = "fbf62922-bea1-4a3d-8bac-23587f810b38"
    name = "ReplaceListItem"
    description = "Puts another value at an index of a list."

    class Input(BlockInput):
        list: Items = Field(description="The list.")
        index: int = Field(description="The index, from 0; negative: from the end.")
        value: Any = Field(description="The new value.")

    class Output(BlockOutput):
        updated_list: Items = Field(description="The list with the new value.")
        old_item: Any = Field(description="The value that stood there.")

    vectors = (
        TestVector({"list": [1, 2], "index": 1, "value": "x"}, [("updated_list", [1, "x"]), ("old_item", 2)]),
        TestVector({"list": [1, 2], "index": 2, "value": "x"}, fails="Index out of range"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        place = place_of(inputs.list, inputs.index)
        yield "updated_list", [*inputs.list[:place], inputs.value, *inputs.list[place + 1 :]]
        yield "old_item", inputs.list[place]


class ListIsEmpty(Block):
    id = "896ed73b-27d0-41be-813c-c1c1dc856c03"
    name = "ListIsEmpty"
    description = "Tells whether a list has no items."

    class Input(BlockInput):
        list: Items = Field(description="The list.")

    class Output(BlockOutput):
        is_empty: bool = Field(description="Whether it has none.")

    vectors = (
        TestVector({"list": []}, [("is_empty", True)]),
        TestVector({"list": [None]}, [("is_empty", False)]),
        TestVector({}, fails="list"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        yield "is_empty", not inputs.list


class ReverseListOrder(Block):
    id = "422cb708-3109-4277-bfe3-bc2ae5812777"
    name = "ReverseListOrder"
    description = "Reverses the order of a list."

    class Input(BlockInput):
        input_list: Items = Field(description="The list.")

    class Output(BlockOutput):
        reversed_list: Items = Field(description="The list, last item first.")

    vectors = (
        TestVector({"input_list": [1, 2, 3]}, [("reversed_list", [3, 2, 1])]),
        TestVector({"input_list": []}, [("reversed_list", [])]),
        TestVector({}, fails="input_list"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        yield "reversed_list", inputs.input_list[::-1]


def place_of(items: Items, index: int) -> int:
    """The place, from 0, that `index` means; a negative index counts from the end.

    Raises:
        BadInput: there is no such place.
    """
    if not -len(items) <= index < len(items):
        raise BadInput("Index out of range")
    return index % len(items)


def _first(items: Items, value: Any) -> int | None:
    return next((place for place, item in enumerate(items) if same(item, value)), None)
