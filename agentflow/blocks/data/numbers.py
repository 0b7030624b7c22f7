"""Calculates with numbers, and counts items."""

import math
import operator
from collections.abc import Callable, Iterator
from typing import Any, Literal

from pydantic import Field

from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context, TestVector

_OPERATIONS: dict[str, Callable[[float, float], Any]] = {
    "Add": operator.add,
    "Subtract": operator.sub,
    "Multiply": operator.mul,
    "Divide": operator.truediv,
    "Power": operator.pow,
}


class Calculator(Block):
    id = "b1ab9b19-67a6-406d-abf5-2dba76d00c79"
    name = "Calculator"
    description = "Calculates with two numbers. Dividing by zero gives infinity; what has no result gives NaN."
    categories = ("LOGIC",)

    class Input(BlockInput):
        operation: Literal["Add", "Subtract", "Multiply", "Divide", "Power"] = Field(description="What to do.")
        a: float = Field(description="The first number.")
        b: float = Field(description="The second number.")
        round_result: bool = Field(False, description="Round the result to a whole number.")

    class Output(BlockOutput):
        result: float = Field(description="The result.")

    vectors = (
        TestVector({"operation": "Add", "a": 10, "b": 5}, [("result", 15.0)]),
        TestVector({"operation": "Subtract", "a": 1, "b": 2.5}, [("result", -1.5)]),
        TestVector({"operation": "Multiply", "a": 3, "b": 4}, [("result", 12.0)]),
        TestVector({"operation": "Divide", "a": 7, "b": 2, "round_result": True}, [("result", 4.0)]),
        TestVector({"operation": "Divide", "a": -1, "b": 0}, [("result", math.inf)]),
        TestVector({"operation": "Divide", "a": 0, "b": 0, "round_result": True}, [("result", math.inf)]),
        TestVector({"operation": "Power", "a": -8, "b": 0.5}, [("result", math.nan)]),
        TestVector({"operation": "Power", "a": 10, "b": 1000}, [("result", math.nan)]),
        TestVector({"operation": "Power", "a": 2, "b": 10}, [("result", 1024.0)]),
        TestVector({"operation": "Root", "a": 2, "b": 10}, fails="operation"),
        TestVector({"operation": "Add", "a": "x"}, fails="b: Field required"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        yield "result", _calculated(inputs)


def _calculated(inputs: Calculator.Input) -> float:
    try:
        result = _OPERATIONS[inputs.operation](inputs.a, inputs.b)
        if isinstance(result, complex):  # the root of a negative number
            return math.nan
        return float(round(result)) if inputs.round_result else float(result)
    except ZeroDivisionError:
        return math.inf
    except (ArithmeticError, ValueError):
        return math.nan


class CountItems(Block):
    id = "3c9c2f42-b0c3-435f-ba35-05f7a25c772a"
    name = "CountItems"
    description = "Counts the items of a list, the entries of a dictionary or the characters of a text."

    class Input(BlockInput):
        collection: Any = Field(description="What to count.")

    class Output(BlockOutput):
        count: int = Field(description="How many there are; -1 where there is nothing to count.")

    vectors = (
        TestVector({"collection": [1, 2, 3]}, [("count", 3)]),
        TestVector({"collection": {"a": 1}}, [("count", 1)]),
        TestVector({"collection": "hello"}, [("count", 5)]),
        TestVector({"collection": []}, [("count", 0)]),
        TestVector({"collection": 7}, [("count", -1)]),
        TestVector({"collection": None}, [("count", -1)]),
        TestVector({"collection": True}, [("count", -1)]),
        TestVector({}, fails="collection"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        yield "count", len(inputs.collection) if hasattr(inputs.collection, "__len__") else -1
