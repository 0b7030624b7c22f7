"""Names a node execution, and the lease under which a worker holds it.

Both travel as one value through the worker and the storage.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self
from uuid import UUID


class ExecutionKey(NamedTuple):
    """Which node execution.

    Attributes:
        run_id: its run.
        node: the node's number in the run's plan.
        idx: which execution of the node, from 1.
    """

    run_id: UUID
    node: int
    idx: int

    @classmethod
    def of_task(cls, args: Sequence[Any]) -> Self:
        """The one that a Celery task's arguments name."""
        run_id, node, idx = args
        return cls(UUID(run_id), node, idx)


class Lease(NamedTuple):
    """A worker's right to write what an attempt did.

    Attributes:
        token: random; every write is fenced by it.
        holder: the process that has it.
        seconds: how long it is good after it was given or renewed.
    """

    token: UUID
    holder: str
    seconds: float
