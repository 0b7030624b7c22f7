"""Lists the blocks that a graph can use."""

from typing import Any

from agentflow.blocks import registry


def every() -> list[dict[str, Any]]:
    """The public descriptions of all blocks that graphs may use, by name."""
    return [block.info() for block in registry.every() if block.enabled]


def get(block_id: str) -> dict[str, Any]:
    """The public description of one block, by id.

    Raises:
        NotFound: there is no such block.
    """
    return registry.get(block_id).info()
