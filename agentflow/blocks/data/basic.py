"""Stores, notes or prints a value, or converts it to another type."""

import math
from collections.abc import Iterator
from typing import Any, Final, Literal

from pydantic import Field

from agentflow.blocks.base import WORK_SECONDS, Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.graph.catalogue import BlockKind
from agentflow.graph.coercion import coerce

_TYPES: dict[str, Any] = {
    "string": str,
    "number": float,
    "boolean": bool,
    "list": list[Any],
    "dictionary": dict[str, Any],
}

_FIRST_INEXACT: Final = 2.0**53
"""From here on, some whole numbers have no exact float."""


class StoreValue(Block):
    id = "1ff065e9-88e8-4358-9d82-8dc91f622ba9"
    name = "StoreValue"
    description = "Keeps a value and gives it to every later execution of what is linked to it."
    static_output = True

    class Input(BlockInput):
        input: Any = Field(description="The value; passed on as it is.")
        data: Any = Field(None, description="A constant to give out instead of the input.")

    class Output(BlockOutput):
        output: Any = Field(description="The data, or the input where there is none.")

    vectors = (
        TestVector({"input": "Hello"}, [("output", "Hello")]),
        TestVector({"input": "Hello", "data": {"a": 1}}, [("output", {"a": 1})]),
        TestVector({"input": "kept", "data": ""}, [("output", "kept")]),
        TestVector({"input": "kept", "data": 0}, [("output", "kept")]),
        TestVector({"input": "kept", "data": []}, [("output", "kept")]),
        TestVector({"input": "kept", "data": False}, [("output", "kept")]),
        TestVector({"input": 0}, [("output", 0)]),
        TestVector({}, fails="input"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        yield "output", inputs.data or inputs.input


class Note(Block):
    id = "cc10ff7b-7753-4ff2-9af6-9399b1a7eddc"
    name = "Note"
    description = "A remark for people who read the graph. It never runs."
    kind = BlockKind.NOTE

    class Input(BlockInput):
        text: str = Field("", description="The remark.")

    class Output(BlockOutput):
        output: str = Field(description="The remark.")

    # A node with it never runs; run by itself, the block yields its remark.
    vectors = (
        TestVector({"text": "See to the costs."}, [("output", "See to the costs.")]),
        TestVector({}, [("output", "")]),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        yield "output", inputs.text


class PrintToConsole(Block):
    id = "f3b1c1b2-4c4f-4f0d-8d2f-4c4f0d8d2f4c"
    name = "PrintToConsole"
    description = "Writes a value to the worker's log and passes it on. Graphs that have it can be read, but not run."
    categories = ("BASIC",)
    enabled = False  # a run's values may be secret, and others than its owner read the logs

    class Input(BlockInput):
        text: Any = Field(description="The value.")

    class Output(BlockOutput):
        output: Any = Field(description="The value.")
        status: str = Field(description="`printed`.")

    vectors = (
        TestVector({"text": "Hello"}, [("output", "Hello"), ("status", "printed")]),
        TestVector({"text": [1, None]}, [("output", [1, None]), ("status", "printed")]),
        TestVector({}, fails="text"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        context.logger.info("printed %s", inputs.text)
        yield "output", inputs.text
        yield "status", "printed"


class UniversalTypeConverter(Block):
    id = "95d1b990-ce13-4d88-9737-ba5c2070c97b"
    name = "UniversalTypeConverter"
    description = "Turns a value into a text, a number, a truth value, a list or a dictionary."
    timeout = WORK_SECONDS

    class Input(BlockInput):
        value: Any = Field(description="The value.")
        type: Literal["string", "number", "boolean", "list", "dictionary"] = Field(description="What to turn it into.")

    class Output(BlockOutput):
        value: Any = Field(description="The value in its new type.")

    vectors = (
        TestVector({"value": "1.5", "type": "number"}, [("value", 1.5)]),
        TestVector({"value": [1, 2], "type": "number"}, [("value", 2.0)]),
        TestVector({"value": "7615917337495251231", "type": "number"}, [("value", 7615917337495251231)]),
        TestVector({"value": -7615917337495251231, "type": "number"}, [("value", -7615917337495251231)]),
        TestVector({"value": "1e300", "type": "number"}, [("value", 1e300)]),
        TestVector({"value": "Infinity", "type": "number"}, [("value", math.inf)]),
        TestVector({"value": "a few", "type": "number"}, [("value", 0.0)]),
        TestVector({"value": "text", "type": "string"}, [("value", "text")]),
        TestVector({"value": {"a": 1}, "type": "string"}, [("value", '{"a": 1}')]),
        TestVector({"value": "TRUE", "type": "boolean"}, [("value", True)]),
        TestVector({"value": "yes", "type": "boolean"}, [("value", False)]),
        TestVector({"value": [0], "type": "boolean"}, [("value", True)]),
        TestVector({"value": "[1, 2]", "type": "list"}, [("value", [1, 2])]),
        TestVector({"value": "1, 2", "type": "list"}, [("value", ["1, 2"])]),
        TestVector({"value": {"a": 1}, "type": "list"}, [("value", [["a", 1]])]),
        TestVector({"value": '{"a": 1}', "type": "dictionary"}, [("value", {"a": 1})]),
        TestVector({"value": ["a", "b"], "type": "dictionary"}, [("value", {"0": "a", "1": "b"})]),
        TestVector({"value": 5, "type": "dictionary"}, [("value", {"value": 5})]),
        TestVector({"value": 5, "type": "colour"}, fails="type"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        value = coerce(inputs.value, _TYPES[inputs.type])
        yield "value", _exact(inputs.value, value) if isinstance(value, float) else value


def _exact(given: Any, number: float) -> float:
    """`number`, or the whole number given, if a float would change it: such numbers are often ids."""
    if not math.isfinite(number) or abs(number) < _FIRST_INEXACT:
        return number
    whole: int = coerce(given, int)
    return number if whole == number else whole
