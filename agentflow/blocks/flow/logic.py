"""Chooses between two branches.

Each block yields its verdict first, then one of `yes_output` and `no_output`. Links from the other do not fire.
"""

import operator
from collections.abc import Callable, Iterator
from typing import Any, Literal

from pydantic import Field

from agentflow.blocks.base import WORK_SECONDS, Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.errors import BadInput
from agentflow.graph.coercion import coerce
from agentflow.graph.json_values import number_if_numeric, same

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": same,
    "!=": lambda first, second: not same(first, second),
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


class _Choice(BlockOutput):
    result: bool = Field(description="The verdict.")
    yes_output: Any = Field(description="Given out if the verdict is yes.")
    no_output: Any = Field(description="Given out if the verdict is no.")


class Condition(Block):
    id = "715696a0-e1da-45c8-b209-c2fa9c3b0be6"
    name = "Condition"
    description = (
        "Compares two values and goes on along the yes or the no output. Texts that mean numbers count as such."
    )
    categories = ("LOGIC",)
    timeout = WORK_SECONDS

    class Input(BlockInput):
        value1: Any = Field(description="The first value.")
        operator: Literal["==", "!=", ">", "<", ">=", "<="] = Field(description="How to compare.")
        value2: Any = Field(description="The second value.")
        yes_value: Any = Field(None, description="What the yes output gives out; left out: the first value.")
        no_value: Any = Field(None, description="What the no output gives out; left out: the second value.")

    class Output(_Choice):
        pass

    vectors = (
        TestVector(
            {"value1": 10, "operator": ">", "value2": 5, "yes_value": "more", "no_value": "not more"},
            [("result", True), ("yes_output", "more")],
        ),
        TestVector(
            {"value1": 1, "operator": ">", "value2": 5, "yes_value": "more", "no_value": "not more"},
            [("result", False), ("no_output", "not more")],
        ),
        TestVector({"value1": "9", "operator": "<", "value2": "10"}, [("result", True), ("yes_output", "9")]),
        TestVector({"value1": "5", "operator": ">=", "value2": 5.0}, [("result", True), ("yes_output", "5")]),
        TestVector({"value1": 6, "operator": "<=", "value2": "5"}, [("result", False), ("no_output", "5")]),
        TestVector({"value1": "a", "operator": "==", "value2": "b"}, [("result", False), ("no_output", "b")]),
        TestVector({"value1": "a", "operator": "!=", "value2": "b"}, [("result", True), ("yes_output", "a")]),
        TestVector({"value1": "b", "operator": ">", "value2": "a"}, [("result", True), ("yes_output", "b")]),
        TestVector({"value1": " 5.0", "operator": "==", "value2": 5}, [("result", True), ("yes_output", " 5.0")]),
        TestVector({"value1": None, "operator": "!=", "value2": 1}, [("result", True), ("yes_output", None)]),
        TestVector({"value1": "a", "operator": "<", "value2": 1}, fails="cannot be compared"),
        TestVector({"value1": 1, "operator": "~", "value2": 1}, fails="operator"),
        TestVector({"value1": 1, "operator": "=="}, fails="value2"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        first, second = number_if_numeric(inputs.value1), number_if_numeric(inputs.value2)
        try:
            verdict = _OPERATORS[inputs.operator](first, second)
        except TypeError:
            kinds = f"{type(first).__name__} and {type(second).__name__}"
            raise BadInput(f"the values cannot be compared with {inputs.operator}: {kinds}") from None
        yield from _chosen(
            verdict,
            inputs.value1 if inputs.yes_value is None else inputs.yes_value,
            inputs.value2 if inputs.no_value is None else inputs.no_value,
        )


class IfInputMatches(Block):
    id = "6dbbc4b3-ca6c-42b6-b508-da52d23e13f2"
    name = "IfInputMatches"
    description = (
        "Goes on along the yes output if the input equals a value, which is first turned into the input's type."
    )
    categories = ("LOGIC",)
    timeout = WORK_SECONDS

    class Input(BlockInput):
        input: Any = Field(description="The value to look at.")
        value: Any = Field(description="What it is to equal.")
        yes_value: Any = Field(None, description="What the yes output gives out; left out: the input.")
        no_value: Any = Field(None, description="What the no output gives out; left out: the input.")

    class Output(_Choice):
        pass

    vectors = (
        TestVector(
            {"input": 10, "value": "10", "yes_value": "yes", "no_value": "no"},
            [("result", True), ("yes_output", "yes")],
        ),
        TestVector({"input": "10", "value": 10}, [("result", True), ("yes_output", "10")]),
        TestVector({"input": 10, "value": "x"}, [("result", False), ("no_output", 10)]),
        TestVector({"input": 0, "value": "x"}, [("result", False), ("no_output", 0)]),
        TestVector({"input": 1.5, "value": " 1.5"}, [("result", True), ("yes_output", 1.5)]),
        TestVector({"input": True, "value": "TRUE"}, [("result", True), ("yes_output", True)]),
        TestVector({"input": [1], "value": "[1]"}, [("result", True), ("yes_output", [1])]),
        TestVector({"input": {"a": 1}, "value": '{"a": 1}'}, [("result", True), ("yes_output", {"a": 1})]),
        TestVector({"input": "a", "value": "b", "no_value": "no"}, [("result", False), ("no_output", "no")]),
        TestVector({"input": None, "value": None}, [("result", True), ("yes_output", None)]),
        TestVector({"input": 1}, fails="value"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        yield from _chosen(
            _matches(inputs.input, inputs.value),
            inputs.input if inputs.yes_value is None else inputs.yes_value,
            inputs.input if inputs.no_value is None else inputs.no_value,
        )


def _matches(value: Any, wanted: Any) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return same(value, number_if_numeric(wanted))  # coercion would turn any other text into 0
    return same(value, wanted if value is None else coerce(wanted, type(value)))


def _chosen(verdict: bool, yes: Any, no: Any) -> Iterator[tuple[str, Any]]:
    yield "result", verdict
    if verdict:
        yield "yes_output", yes
    else:
        yield "no_output", no
