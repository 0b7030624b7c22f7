"""Every block does what its own examples say, and bears the id by which graphs in the wild name it."""

import pytest

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


@pytest.mark.parametrize("block", registry.every(), ids=lambda block: block.name)
def test_every_block_that_runs_has_an_example(block: type[Block]) -> None:
    assert block.vectors or block.kind is BlockKind.NOTE
