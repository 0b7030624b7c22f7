"""What does a block look like to those who draw graphs?"""

from typing import Any

from pydantic import ConfigDict

from agentflow.schemas.base import Reply


class BlockInfo(Reply):
    """A block: its pins as JSON Schemas. The names are those that graph editors know."""

    model_config = ConfigDict(extra="allow")

    id: str
    name: str
    description: str = ""
    categories: list[Any] = []
    inputSchema: dict[str, Any] = {}  # noqa: N815  (the public name of the field)
    outputSchema: dict[str, Any] = {}  # noqa: N815
    staticOutput: bool = False  # noqa: N815
    uiType: str = "Standard"  # noqa: N815


class BlockList(Reply):
    """All blocks, by name."""

    items: list[BlockInfo]
