"""Every block does what its examples say."""

from typing import Any

import pytest
from reading_blocks import blocks

from agentflow.blocks.base import Block, TestVector
from agentflow.blocks.trial import collect, trial_context, try_vector
from agentflow.engine.waits import Resumed

BLOCKS = [
    thing
    for thing in vars(blocks).values()
    if isinstance(thing, type) and issubclass(thing, Block) and thing.__module__ == blocks.__name__
]
EXAMPLES = [
    pytest.param(block, vector, id=f"{block.name}-{number}")
    for block in BLOCKS
    for number, vector in enumerate(block.vectors, start=1)
]


@pytest.mark.parametrize(("block", "vector"), EXAMPLES)
def test_a_block_does_what_its_example_says(block: type[Block], vector: TestVector) -> None:
    try_vector(block(), vector)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_every_pin_is_described(block: type[Block]) -> None:
    fields: dict[str, Any] = {**block.Input.model_fields, **block.Output.model_fields}
    assert [name for name, field in fields.items() if not field.description] == []


def test_the_minutes_are_rounded_up() -> None:
    assert collect(blocks.ReadingTime(), {"text": "one two three", "words_per_minute": 3})[0] == ("minutes", 1)
    assert collect(blocks.ReadingTime(), {"text": "one two three four", "words_per_minute": 3})[0] == ("minutes", 2)


@pytest.mark.parametrize(("state", "given"), [(None, []), (1, [("message", "Up!")]), (2, [("message", "Up!")])])
def test_a_reminder_comes_after_each_wait_and_not_before(state: int | None, given: list[tuple[str, str]]) -> None:
    context = trial_context(resumed=None if state is None else Resumed("timer", state=state))
    assert collect(blocks.Reminders(), {"message": "Up!", "after": [1.0, 2.0]}, context) == given
