"""Assembles a settlement: everything that one transaction records of an attempt, with its consequences.

Whoever closes, parks or flushes a node execution makes a `Settlement` with `settlement()`, and stores it with
`storage.hot.node_executions.HotConnection.settle`. A new consequence of settling is a field of `Consequences`, its
value in `settlement()`, and a clause of `agentflow_consequences` in SQL.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

from agentflow.engine.codec import dumps, members, storable_text
from agentflow.engine.execution import ExecutionKey, Lease
from agentflow.engine.routing import Batch, Routes, routes_of
from agentflow.engine.statuses import FailureReason, NodeStatus
from agentflow.engine.verdict import failure_stops
from agentflow.engine.waits import WaitKind
from agentflow.graph.catalogue import BlockKind
from agentflow.graph.plan import Plan


@dataclass(frozen=True, slots=True)
class WaitFor:
    """What a node execution waits for.

    Attributes:
        kind, key: what; the key is an event's name, a review's id or a child run's call.
        seconds: the timeout; None: there is none.
        state: JSON that its next attempt gets back.
        name, data, editable: of a review: its title, what is shown, and whether that may be edited.
    """

    kind: WaitKind
    key: str
    seconds: float | None
    state: Mapping[str, Any]
    name: str | None = None
    data: Any = None
    editable: bool | None = None

    def opaque(self) -> dict[str, str | None]:
        """What comes from users, as texts: PostgreSQL reads no JSON in which a NUL or half a surrogate pair is."""
        name = None if self.name is None else storable_text(self.name)
        return {"name": name, "state": dumps(self.state), "data": dumps(self.data)}


@dataclass(frozen=True, slots=True)
class Transition:
    """What becomes of a RUNNING node execution. Each constructor is one legal move, or none (`flushed`).

    Attributes:
        status: the new status; None: it stays RUNNING.
        reason, error: why.
        delay: seconds until a retry is due.
        wait: what it waits for, if it becomes WAITING.
    """

    status: NodeStatus | None
    reason: str | None = None
    error: str | None = None
    delay: float = 0.0
    wait: WaitFor | None = None

    @property
    def ends_task(self) -> bool:
        """Whether its task ends with it: it is closed, or waits."""
        return self.status in (NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.WAITING)

    @classmethod
    def flushed(cls) -> Self:
        """It stores what was yielded so far and continues."""
        return cls(None)

    @classmethod
    def completed(cls) -> Self:
        """The block went through to its end."""
        return cls(NodeStatus.COMPLETED)

    @classmethod
    def failed(cls, reason: str, error: str) -> Self:
        """The block failed for good, or the lease was lost too often."""
        return cls(NodeStatus.FAILED, reason, error)

    @classmethod
    def retried(cls, reason: str, error: str, delay: float) -> Self:
        """The attempt failed; the next one is due in `delay` seconds."""
        return cls(NodeStatus.QUEUED, reason, error, delay)

    @classmethod
    def stopped(cls) -> Self:
        """The attempt broke off because its run was stopped.

        The storage records CANCELLED, as for every settlement of a stopped run. Where the run was not stopped after
        all, it is QUEUED and runs again.
        """
        return cls(NodeStatus.QUEUED)

    @classmethod
    def waiting(cls, wait: WaitFor) -> Self:
        """The block waits for the outside."""
        return cls(NodeStatus.WAITING, wait=wait)


COMPLETED: Final = Transition.completed()
FLUSHED: Final = Transition.flushed()


@dataclass(frozen=True, slots=True)
class Charge:
    """What the owner of a run pays for an attempt.

    Attributes:
        owner: the owner's id.
        token: the lease's, which causes the charge: once, however often the settlement is sent.
        attempt, node_id, block: what it was for.
        amount: credits.
        used: credits, if its run was stopped and it is CANCELLED.
        held: something may be held back for it, which is let go of.
        low: the owner is low on credits with fewer than so many; None: never.
    """

    owner: str
    token: str
    attempt: int
    node_id: str
    block: str
    amount: int
    used: int
    held: bool
    low: int | None = None


@dataclass(frozen=True, slots=True)
class Consequences:
    """What else happens in the transaction. Most settlements have none of these.

    Attributes:
        stats: counts that the block reported in this attempt.
        wait: what it waits for.
        frees_slot: it may hold slots of concurrency limits.
        wakes_parent: its run is a child run, and the parent is told.
        stops_run: the reason for which its run must be stopped.
        charge: what its owner pays, where credits are on and it cost something.
        withholds_inputs: what was delivered to it is taken away, also where it came from: nobody may see it.
    """

    stats: Mapping[str, float] | None = None
    wait: WaitFor | None = None
    frees_slot: bool = False
    wakes_parent: bool = False
    stops_run: FailureReason | None = None
    charge: Charge | None = None
    withholds_inputs: bool = False

    def as_json(self) -> str | None:
        """As `agentflow_consequences` takes them, without those that are false or 0; None: there are none."""
        if self == _NONE:
            return None
        found = members(self)
        if self.wait is not None:
            found["wait"] = members(self.wait) | self.wait.opaque()
        if self.charge is not None:
            found["charge"] = {name: value for name, value in members(self.charge).items() if value}
        return dumps({name: value for name, value in found.items() if value})


STOPPING: Final = frozenset({FailureReason.INSUFFICIENT_BALANCE, FailureReason.MODERATION})
"""Reasons of a failed node execution that end its run, whatever its graph says of failures."""

_NONE: Final = Consequences()


class Settlement(NamedTuple):
    """What one transaction records of an attempt.

    Attributes:
        key: the node execution.
        lease: the attempt's; without it nothing is recorded.
        outputs: the values yielded since the last settlement.
        routes: which of them go where.
        transition: what becomes of the node execution.
        ordered: its outputs are routed after those of the earlier executions of its node.
        consequences: what else happens.
    """

    key: ExecutionKey
    lease: Lease
    outputs: Batch
    routes: Routes
    transition: Transition
    ordered: bool
    consequences: Consequences = _NONE


def settlement(
    plan: Plan,
    key: ExecutionKey,
    lease: Lease,
    outputs: Batch,
    transition: Transition,
    *,
    in_child_run: bool = False,
    stats: Mapping[str, float] | None = None,
    charge: Charge | None = None,
    has_slots: bool = False,
) -> Settlement:
    """Assemble a settlement: routes and consequences follow from the plan.

    Args:
        plan: the run's, with its masks.
        key: the node execution.
        lease: the attempt's.
        outputs: what was yielded since the last settlement, and the engine's message where it failed.
        transition: what becomes of it.
        in_child_run: its run has a parent.
        stats: counts that the block reported in this attempt.
        charge: what its owner pays for it.
        has_slots: it may hold slots of other limits than its node's own.
    """
    node = plan.nodes[key.node]
    consequences = _NONE
    if transition.status is not None:
        waits = transition.status is NodeStatus.WAITING
        # A sub-graph node keeps its slot while it waits: it stands for its child run.
        has_slots = has_slots or node.settings.concurrency is not None
        frees = has_slots and not (waits and node.kind is BlockKind.AGENT)
        wakes = in_child_run and node.kind is BlockKind.OUTPUT
        stops = None
        if transition.status is NodeStatus.FAILED:
            if transition.reason in STOPPING:
                stops = FailureReason(transition.reason)
            elif failure_stops(plan, key.node):
                stops = FailureReason.NODE_FAILED
        consequences = Consequences(
            stats=stats or None,
            wait=transition.wait,
            frees_slot=frees,
            wakes_parent=wakes,
            stops_run=stops,
            charge=charge,
            withholds_inputs=stops is FailureReason.MODERATION,
        )
    return Settlement(key, lease, outputs, routes_of(plan, outputs), transition, node.ordered, consequences)
