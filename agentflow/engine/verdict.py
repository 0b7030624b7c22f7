"""Decides how a run ends, from counts alone, once nothing of it is open."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from agentflow.engine.codec import storable_text
from agentflow.engine.statuses import FailureReason, NodeStatus, RunStatus
from agentflow.graph.plan import Plan

OWN_COUNTS: Final = frozenset(
    {"node_count", "node_error_count", "node_cancelled_count", "leftovers", "leftover_count", "child_runs"}
    | {"duration", "waited", "outputs", "failures", "losses", "charged"}
)
"""What the engine itself counts of runs and node executions: blocks report under other names, beside these."""


@dataclass(frozen=True, slots=True)
class NodeCount:
    """How many executions of a node have a status; `started` of them were ever claimed."""

    node: int
    status: NodeStatus
    count: int
    started: int


class FirstFailure(NamedTuple):
    """The first failure of a run that nothing handled: its node, reason and message."""

    node: int
    reason: str | None
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a run."""

    status: RunStatus
    reason: str | None
    error: str | None
    stats: Mapping[str, Any]


_FAILED_OF: Mapping[str, FailureReason] = {
    "worker_lost": FailureReason.WORKER_LOST,
    "system": FailureReason.ENGINE,
    "unserved": FailureReason.UNSERVED,
}
"""Reasons of a node execution that are not its block's doing, and the run's reason that follows."""

_STOPPED: Mapping[str, str] = {
    FailureReason.TIMEOUT: "the run did not end before its deadline",
    FailureReason.QUEUE_TIMEOUT: "the run did not begin within its graph's queue_timeout",
    FailureReason.LIMIT: "the run has more node executions than it may: most likely a loop without an end",
    FailureReason.INSUFFICIENT_BALANCE: "the run has cost more than its budget",
    FailureReason.MODERATION: "moderation refused what the run was given, or what a child run of it gives",
}


_OF_A_NODE: Final = frozenset({FailureReason.NODE_FAILED, FailureReason.MODERATION})
"""Reasons of a stop that a failed node explains, if there is one."""


def failure_is_unhandled(plan: Plan, node: int) -> bool:
    """Whether a failure of this node makes the run FAILED: no link takes its error, and it is not ignored."""
    return not plan.nodes[node].handles_errors and plan.nodes[node].settings.on_node_failure != "ignore"


def failure_stops(plan: Plan, node: int) -> bool:
    """Whether a failure of this node, for good, cancels the rest of its run."""
    return plan.nodes[node].settings.on_node_failure == "stop" and failure_is_unhandled(plan, node)


def judge(
    plan: Plan,
    counts: Sequence[NodeCount],
    missing: Mapping[int, Mapping[str, int]],
    stop: tuple[RunStatus, str] | None,
    first_failure: FirstFailure | None,
    reported: Mapping[str, float] = MappingProxyType({}),
    shortfall: str | None = None,
) -> Verdict:
    """The verdict on a run in which nothing is open.

    Args:
        plan: the run's, with its masks.
        counts: its node executions.
        missing: for nodes with leftovers, how many of them wait for a value on each pin.
        stop: the status to end with and the reason, if it was stopped.
        first_failure: the first failure that nothing handled; None if there is none.
        reported: counts that its blocks reported (`cost`, tokens, …), and those of its child runs, added up.
        shortfall: what its owner could not pay for, if it was stopped for that; None: it was more than its budget.
    """
    stats = _stats(plan, counts, missing)
    stats |= {"cost": 0} | {key: count + stats.get(key, 0) for key, count in reported.items()}
    if stop is not None:
        status, reason = stop
        if status is RunStatus.FAILED and reason in _OF_A_NODE and first_failure is not None:
            return Verdict(status, reason, _describe(plan, first_failure), stats)
        if status is not RunStatus.FAILED:
            return Verdict(status, reason, None, stats)
        if reason == FailureReason.INSUFFICIENT_BALANCE and shortfall is not None:
            return Verdict(status, reason, shortfall, stats)
        return Verdict(status, reason, _STOPPED.get(reason, reason), stats)
    if first_failure is not None:
        reason = _FAILED_OF.get(first_failure.reason or "", FailureReason.NODE_FAILED)
        return Verdict(RunStatus.FAILED, reason, _describe(plan, first_failure), stats)
    return Verdict(RunStatus.COMPLETED, None, None, stats)


def _describe(plan: Plan, failure: FirstFailure) -> str:
    node = plan.nodes[failure.node]
    return storable_text(f"{node.title} ({node.id}): {failure.message}")  # a title is free text


def _stats(plan: Plan, counts: Sequence[NodeCount], missing: Mapping[int, Mapping[str, int]]) -> dict[str, Any]:
    leftovers = [
        {"node_id": plan.nodes[c.node].id, "count": c.count, "missing": dict(missing.get(c.node, {}))}
        for c in counts
        if c.status is NodeStatus.INCOMPLETE
    ]
    return {
        "node_count": sum(c.started for c in counts),
        "node_error_count": sum(c.count for c in counts if c.status is NodeStatus.FAILED),
        "node_cancelled_count": sum(c.count for c in counts if c.status is NodeStatus.CANCELLED),
        "leftovers": leftovers,
        "leftover_count": sum(entry["count"] for entry in leftovers),
    }
