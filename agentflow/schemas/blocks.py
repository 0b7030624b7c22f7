"""Defines how clients see a block, and how they execute one by itself."""

from typing import Any
from uuid import UUID

from pydantic import ConfigDict, Field

from agentflow.engine.statuses import RunStatus
from agentflow.schemas.base import Inputs, Reply, Request


class BlockInfo(Reply):
    """A block: its pins as JSON Schemas. The names are those that graph editors know."""

    model_config = ConfigDict(extra="allow")

    id: str
    name: str
    description: str = ""
    categories: list[Any] = []
    inputSchema: dict[str, Any] = {}  # noqa: N815  (the public name of the field)
    outputSchema: dict[str, Any] = {}  # noqa: N815
    costs: list[Any] = Field([], description="What an execution costs, in credits; empty: nothing.")
    contributors: list[Any] = []
    staticOutput: bool = False  # noqa: N815
    uiType: str = "Standard"  # noqa: N815


class ExecuteBlock(Request):
    """Run one block by itself."""

    inputs: Inputs = Field(default_factory=dict, description="{pin: value}")
    wait: float = Field(30.0, ge=0, le=60, description="Seconds to wait for its end; then ask for the run.")


class BlockResult(Reply):
    """What a block gave, by pin. `status` is that of the run that it had to itself."""

    run_id: UUID
    status: RunStatus
    outputs: dict[str, list[Any]] = {}
    error: str | None = None


class BlockList(Reply):
    """All blocks, by name."""

    items: list[BlockInfo]
