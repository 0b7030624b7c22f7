"""Blocks for those who read: one that answers at once, and one that waits."""

import math
from collections.abc import Iterator
from typing import Any

from pydantic import Field

from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.engine.waits import Resumed, Timer, Wait
from agentflow.errors import BadInput


class ReadingTime(Block):
    id = "01a20bb1-5e7c-7c60-8d55-2f3b1c9a4e01"
    name = "ReadingTime"
    description = "Says how many minutes a text takes to read."
    categories = ("TEXT",)

    class Input(BlockInput):
        text: str = Field(description="The text.")
        words_per_minute: int = Field(240, ge=1, le=10_000, description="How fast it is read.")

    class Output(BlockOutput):
        minutes: int = Field(description="Whole minutes, rounded up; 0 for an empty text.")
        words: int = Field(description="The words in the text.")

    vectors = (
        TestVector({"text": "a word " * 240}, [("minutes", 2), ("words", 480)]),
        TestVector({"text": "three words here", "words_per_minute": 2}, [("minutes", 2), ("words", 3)]),
        TestVector({"text": ""}, [("minutes", 0), ("words", 0)]),
        TestVector({"text": "x", "words_per_minute": 0}, fails="words_per_minute"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        words = len(inputs.text.split())
        yield "minutes", math.ceil(words / inputs.words_per_minute)
        yield "words", words


class Reminders(Block):
    id = "01a20bb1-5e7c-7c60-8d55-2f3b1c9a4e02"
    name = "Reminders"
    description = "Gives out a message several times, with a wait before each."
    categories = ("BASIC",)

    class Input(BlockInput):
        message: str = Field(description="What to give out.")
        after: list[float] = Field([60.0], max_length=100, description="The waits before each, in seconds.")

    class Output(BlockOutput):
        message: str = Field(description="The message, once for each wait.")

    vectors = (
        TestVector({"message": "Read on!", "after": [60, 120]}, waits=Timer(60, 1)),
        # The same node execution after its first wait: a message, and the next wait.
        TestVector(
            {"message": "Read on!", "after": [60, 120]},
            [("message", "Read on!")],
            resumed=Resumed("timer", state=1),
            waits=Timer(120, 2),
        ),
        TestVector(
            {"message": "Read on!", "after": [60, 120]},
            [("message", "Read on!")],
            resumed=Resumed("timer", state=2),
        ),
        TestVector({"message": "Read on!", "after": []}),
        TestVector({"message": "Read on!", "after": [-1]}, fails="a wait is less than nothing"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any] | Wait]:
        if any(seconds < 0 for seconds in inputs.after):
            raise BadInput("a wait is less than nothing")
        waited = 0  # how many waits are over: the state that the block leaves in each
        if context.resumed is not None:
            waited = context.resumed.state
            yield "message", inputs.message
        if waited < len(inputs.after):
            yield Timer(inputs.after[waited], waited + 1)
