"""What tests of node executions share: the types of their fixtures, a block that passes a value on, a run's owner."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from agentflow.blocks.base import Context
from agentflow.engine.waits import Wait

Probe = Callable[..., str]
Chain = Callable[..., UUID]
Submit = Callable[..., UUID]
Statuses = Callable[[UUID], dict[str, str]]
Outputs = Callable[..., list[Any]]
Rows = Callable[..., Any]
Yields = Iterator[tuple[str, Any] | Wait]


def passes(inputs: Any, context: Context) -> Yields:
    yield "value", inputs.value


def owner_of(rows: Rows, run_id: UUID) -> UUID:
    (found,) = rows("SELECT owner_id FROM runs WHERE id = :run", run=run_id)
    return UUID(str(found))
