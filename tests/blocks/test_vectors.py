"""Every block does what its own examples say, and bears the id by which graphs in the wild name it."""

import pytest
from standalone import STAND_ALONE

from agentflow.blocks import registry
from agentflow.blocks.base import Block, TestVector
from agentflow.blocks.trial import try_vector
from agentflow.graph.catalogue import BlockKind

EXAMPLES = [
    pytest.param(block, vector, id=f"{block.name}-{number}")
    for block in registry.every()
    for number, vector in enumerate(block.vectors)
]


@pytest.mark.parametrize(("block", "vector"), EXAMPLES)
def test_a_block_does_what_its_example_says(block: type[Block], vector: TestVector) -> None:
    try_vector(registry.get(block.id), vector)


FOR_PEOPLE = {"title", "description", "advanced", "secret"}
"""Pins of inputs and outputs of graphs: the engine and its clients read them, the block does not."""

RUNS = [block for block in registry.every() if block.kind is not BlockKind.NOTE]


@pytest.mark.parametrize("block", RUNS, ids=lambda block: block.name)
def test_every_block_that_runs_has_an_example_of_a_failure(block: type[Block]) -> None:
    assert any(vector.fails is not None for vector in block.vectors)


@pytest.mark.parametrize("block", STAND_ALONE, ids=lambda block: block.name)
def test_every_pin_of_a_block_that_needs_nobody_is_in_an_example(block: type[Block]) -> None:
    spec, filled = block.spec(), {block.gathers, *FOR_PEOPLE}  # what is gathered, the engine fills in
    given = {pin for vector in block.vectors for pin in vector.inputs}
    yielded = {pin for vector in block.vectors for pin, _ in vector.outputs}
    assert set(spec.inputs) - given - filled == set()
    assert set(spec.outputs) - yielded - {"error"} == set()
