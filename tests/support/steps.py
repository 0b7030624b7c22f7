"""The steps of a worker, called with loose numbers: tests name node executions by run, node and index."""

from uuid import UUID

from agentflow.engine.execution import ExecutionKey, Lease
from agentflow.ids import new_token
from agentflow.storage.hot.node_executions import Claim
from agentflow.worker import execute as worker
from agentflow.worker.attempt import Attempt
from agentflow.worker.endings import NodeExecutionStopped
from agentflow.worker.process import Process, process


def execute(run_id: UUID, node: int, idx: int) -> Exception | None:
    """Run one node execution as a worker's child does."""
    return worker.execute(ExecutionKey(run_id, node, idx))


def claim(state: Process, run_id: UUID, node: int, idx: int) -> Attempt | NodeExecutionStopped | None:
    """Take a node execution, and stop before its block runs."""
    return worker.claim(state, ExecutionKey(run_id, node, idx))


def hold(run_id: UUID, holder: str, *, lease: float = 60, node: int = 0, idx: int = 1) -> Lease:
    """`holder` claims a node execution, and nothing more."""
    given = Lease(new_token(), holder, lease)
    assert claimed(run_id, given, node=node, idx=idx).verdict == "claimed"
    return given


def claimed(run_id: UUID, lease: Lease, *, node: int = 0, idx: int = 1) -> Claim:
    """What claiming a node execution of no linked pins says."""
    return process().hot.claim(ExecutionKey(run_id, node, idx), [], lease)


def wake_due(run_id: UUID, node: int, idx: int) -> bool:
    """Recovery sees that the time of a wait has come."""
    return process().hot.wake_due(ExecutionKey(run_id, node, idx))
