"""Turns a collection into a stream of items, and gathers a stream into lists."""

from collections.abc import Iterator
from typing import Any, Final

from pydantic import Field

from agentflow.blocks.base import WORK_SECONDS, Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.errors import BadInput
from agentflow.texts import json_value, without_mark

MAX_ITEMS = 10_000
"""Items per execution. More are refused before the first is yielded."""


class StepThroughItems(Block):
    id = "f66a3543-28d3-4ab5-8945-9b336371e2ce"
    name = "StepThroughItems"
    description = "Gives out the items of a list or dictionary one by one, each with its index or key."
    categories = ("LOGIC",)
    for_each = ("item", "key")
    timeout = WORK_SECONDS

    class Input(BlockInput):
        items: list[Any] = Field([], description="A list.")
        items_object: dict[str, Any] = Field({}, description="A dictionary.")
        items_str: str = Field("", description="The JSON text of a list or a dictionary.")

    class Output(BlockOutput):
        item: Any = Field(description="The item.")
        key: Any = Field(description="Its index in the list, from 0, or its key in the dictionary.")

    vectors = (
        TestVector({"items": ["a", "b"]}, [("item", "a"), ("key", 0), ("item", "b"), ("key", 1)]),
        TestVector({"items_object": {"x": 1, "y": 2}}, [("item", 1), ("key", "x"), ("item", 2), ("key", "y")]),
        TestVector({"items_str": "[true]"}, [("item", True), ("key", 0)]),
        TestVector({"items_str": '{"k": "v"}'}, [("item", "v"), ("key", "k")]),
        TestVector({"items": ["a"], "items_object": {"x": 1}}, [("item", "a"), ("key", 0), ("item", 1), ("key", "x")]),
        TestVector({}, []),
        TestVector({"items": [0] * (MAX_ITEMS + 1)}, fails="more than 10000 items"),
        TestVector({"items_str": "[1, 2"}, fails="not JSON"),
        TestVector({"items_str": "5"}, fails="neither a list nor a dictionary"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        collections = (inputs.items, inputs.items_object, _parsed(inputs.items_str))
        if sum(map(len, collections)) > MAX_ITEMS:
            raise BadInput(f"there are more than {MAX_ITEMS} items to step through")
        for collection in collections:
            for key, item in collection.items() if isinstance(collection, dict) else enumerate(collection):
                context.stop_if_cancelled()
                yield "item", item
                yield "key", key


LARGEST_GROUP: Final = 1_000_000_000
"""Values in one gathered list, at most: more than a run may have node executions."""


class Gather(Block):
    id = "7d4f3a52-6f0c-4b8f-9d7e-5a2c1e9b0d34"
    name = "Gather"
    description = (
        "Gathers the values that arrive one by one into lists, in their order: so many at a time, "
        "or all that came when nothing more can come."
    )
    categories = ("LOGIC",)
    gathers = "item"

    class Input(BlockInput):
        item: Any = Field(None, description="The values, one by one.")
        size: int | None = Field(None, ge=1, le=LARGEST_GROUP, description="Values in a list; left out: all that come.")
        items: list[Any] = Field([], description="Filled in with the gathered values; leave it empty.")

    class Output(BlockOutput):
        items: list[Any] = Field(description="The values, in the order in which they came.")
        count: int = Field(description="How many they are.")

    vectors = (
        TestVector({"items": ["a", None, "b"]}, [("items", ["a", None, "b"]), ("count", 3)]),
        TestVector({"items": [1], "size": 0}, fails="size"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        yield "items", inputs.items
        yield "count", len(inputs.items)


def _parsed(text: str) -> list[Any] | dict[str, Any]:
    if not without_mark(text).strip():
        return []
    try:
        value = json_value(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"items_str is not JSON: {error}") from None
    if not isinstance(value, list | dict):
        raise BadInput("items_str is neither a list nor a dictionary")
    return value
