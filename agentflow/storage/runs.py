"""Creates and stops runs, and reads what finalising one needs. (Node executions: `hot/node_executions.py`.)

Each function works in the caller's transaction.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from agentflow import clock
from agentflow.engine.codec import dumps
from agentflow.engine.statuses import NodeStatus, RunStatus
from agentflow.engine.verdict import FirstFailure, NodeCount, failure_is_unhandled
from agentflow.errors import AlreadyEnded, AtLimit, NotFound
from agentflow.graph.plan import Plan, PlanNode
from agentflow.settings import settings
from agentflow.storage.tables import Delivery, NodeExecution, Run, StickyValue

_CREATE = text(
    "SELECT * FROM agentflow_create_run(:run, :owner, :graph, :version, :masks, cast(:labels AS jsonb), :priority, "
    ":deadline, :budget, :node_limit, :parent, :parent_node, :parent_idx, :parent_call, :forked_from, :schedule, "
    "cast(:at_once AS jsonb), :start_by, :most, :examine, :window, "
    "cast(:names AS text[]), cast(:values AS text[]), cast(:places AS int[]), cast(:nodes AS int[]), "
    "cast(:starting AS int[]), cast(:needs AS int[]), cast(:primed AS int[]), cast(:first_needs AS int[]))"
)


DEFAULT_PRIORITY: Final = 5


class Ready(NamedTuple):
    """A node execution that is QUEUED and must be published."""

    node: int
    idx: int


class Parent(NamedTuple):
    """The node execution that waits for a child run; `call` tells several children of one apart."""

    run_id: UUID
    node: int
    idx: int
    call: str = ""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be created. Its deadline is its graph's, and its parent's if that is earlier.

    Attributes:
        plan: its graph's, without the masks.
        inputs: name → value.
        masks: node id → pin → value.
        labels: the owner's marks.
        priority: 0 to 9, the most urgent; None: the graph's, else 5.
        parent: the node execution that waits for a child run. If its child exists, nothing is created.
        examine: it is held until moderation has passed it; not for child runs.
        schedule_id: what started it; None: somebody or something else.
    """

    id: UUID
    owner_id: UUID
    plan: Plan
    inputs: Mapping[str, Any] = field(default_factory=dict)
    masks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    labels: Mapping[str, Any] = field(default_factory=dict)
    priority: int | None = None
    parent: Parent | None = None
    examine: bool = False
    schedule_id: UUID | None = None

    @property
    def urgency(self) -> int:
        """Its priority, or the one that it has without."""
        return next(p for p in (self.priority, self.plan.settings.priority, DEFAULT_PRIORITY) if p is not None)


class Created(NamedTuple):
    """What is to be done once a run is committed.

    Attributes:
        ready: its node executions to be published.
        superseded: runs whose place it takes, which are to be cancelled. (If nobody does, recovery does.)
    """

    ready: Sequence[Ready]
    superseded: Sequence[UUID] = ()


class StopOutcome(NamedTuple):
    """`verdict`: stopped now, or already before. `running`: node executions that a worker still holds."""

    verdict: Literal["stopped", "already"]
    running: int


def create(session: Session, new: NewRun, *, only: Set[int] | None = None, forked_from: UUID | None = None) -> Created:
    """Write the run, its inputs and its starting node executions; returns what is to be done after the commit.

    Nothing is to be published if it is held, because its owner has as many active runs as allowed, or as many of the
    graph. A child run that exists is not created again, and nothing of it is returned. `only`: the nodes that are not
    taken over from the run `forked_from`.

    Raises:
        AtLimit: as many runs of the graph are open as may be, and it is not to wait.
    """
    plan = new.plan.masked(new.masks) if new.masks else new.plan
    starting = [node for node in plan.starting() if only is None or node.number in only]
    primed = [node for node in plan.primed() if only is None or node.number in only]
    fed = [
        (place, node.number)
        for place, name in enumerate(new.inputs)
        for node in plan.inputs.get(name, ())
        if only is None or node.number in only
    ]
    parent, seconds = new.parent, new.plan.settings.deadline
    row = session.execute(
        _CREATE,
        {
            "run": new.id,
            "owner": new.owner_id,
            "graph": plan.graph_id,
            "version": plan.version,
            "masks": dumps(dict(new.masks)) if new.masks else None,
            "labels": dumps(dict(new.labels)),
            "priority": new.urgency,
            "deadline": _later(seconds),
            "budget": new.plan.settings.budget,
            "node_limit": new.plan.settings.max_node_executions,
            "parent": parent.run_id if parent else None,
            "parent_node": parent.node if parent else None,
            "parent_idx": parent.idx if parent else None,
            "parent_call": parent.call if parent else None,
            "forked_from": forked_from,
            "schedule": new.schedule_id,
            "at_once": None if parent else at_once(new),
            "start_by": None if parent else _later(new.plan.settings.queue_timeout),
            "most": None if parent else settings().max_active_runs,
            "examine": new.examine,
            "window": settings().ready_window,
            "names": list(new.inputs),
            "values": [dumps(value) for value in new.inputs.values()],
            "places": [place for place, _ in fed],
            "nodes": [node for _, node in fed],
            "starting": [node.number for node in starting],
            "needs": [node.first_need for node in starting],
            "primed": [node.number for node in primed],
            "first_needs": [node.first_need for node in primed],
        },
    ).one()
    if row.full_of is not None:
        raise AtLimit(f"as many runs of the graph are open as its `runs` setting allows; one is {row.full_of}")
    return Created([Ready(node, 1) for node in row.q_node or ()], row.superseded or ())


def at_once(new: NewRun) -> str | None:
    """What the graph says about its runs at the same time, as SQL takes it; None: nothing."""
    said = new.plan.settings.runs
    if said is None:
        return None
    key = str(new.plan.graph_id)
    if said.key is not None:
        value = new.inputs[said.key] if said.key in new.inputs else _default(new.plan, said.key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # as JSON has it
        key += ":" + sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    return dumps({"key": key, "limit": said.limit, "when_full": said.when_full})


def _default(plan: Plan, name: str) -> Any:
    """What an input node gives without a value."""
    return next((node.input_default.get("value") for node in plan.inputs.get(name, ())), None)


def _later(seconds: float | None) -> datetime | None:
    return None if seconds is None else clock.now() + timedelta(seconds=seconds)


def stop(session: Session, run_id: UUID, stop_as: RunStatus, reason: str) -> StopOutcome:
    """Stop a run, to end as `stop_as`; takes its gate alone. The first stop counts.

    Raises:
        NotFound: there is no such run.
        AlreadyEnded: it has ended.
    """
    row = session.execute(
        text("SELECT verdict, running FROM agentflow_stop(:run, :stop_as, :reason)"),
        {"run": run_id, "stop_as": stop_as, "reason": reason},
    ).one()
    if row.verdict == "unknown":
        raise NotFound(f"there is no run {run_id}")
    if row.verdict == "ended":
        raise AlreadyEnded(f"run {run_id} has ended already")
    return StopOutcome(row.verdict, row.running)


def stop_orphan(session: Session, run_id: UUID, reason: str) -> StopOutcome | None:
    """Stop a child run, to end CANCELLED, unless somebody waits for it (again): then None."""
    row = session.execute(
        text("SELECT verdict, running FROM agentflow_stop_orphan(:run, :reason)"), {"run": run_id, "reason": reason}
    ).one()
    return None if row.verdict == "kept" else StopOutcome(row.verdict, row.running)


def stop_unbegun(session: Session, run_id: UUID) -> StopOutcome | None:
    """Stop a run, to end FAILED, unless it has begun: then None.

    Raises:
        AlreadyEnded: it has ended.
    """
    row = session.execute(text("SELECT verdict, running FROM agentflow_stop_unbegun(:run)"), {"run": run_id}).one()
    if row.verdict == "ended":
        raise AlreadyEnded(f"run {run_id} has ended already")
    return None if row.verdict == "kept" else StopOutcome(row.verdict, row.running)


class Admitted(NamedTuple):
    """An admitted run, and its node executions that must be published."""

    id: UUID
    graph_id: UUID
    graph_version: int
    masks: str | None
    priority: int
    nodes: Sequence[int]
    indexes: Sequence[int]


def admit(session: Session, owner_id: UUID, most: int, window: int) -> list[Admitted]:
    """Admit runs of a user up to `most` active ones."""
    rows = session.execute(
        text(
            "SELECT r.id, r.graph_id, r.graph_version, r.masks, r.priority, a.q_node, a.q_idx "
            "FROM agentflow_admit(:owner, :most, :window) a JOIN runs r ON r.id = a.run_id"
        ),
        {"owner": owner_id, "most": most, "window": window},
    ).all()
    return [
        Admitted(row.id, row.graph_id, row.graph_version, row.masks, row.priority, row.q_node or (), row.q_idx or ())
        for row in rows
    ]


class Census(NamedTuple):
    """How a run stands that is over."""

    stop: tuple[RunStatus, str] | None  # as what, and why, it was stopped
    counts: Sequence[NodeCount]
    reported: Mapping[str, Any]  # counts that its blocks and its child runs reported, added up


class Rest(NamedTuple):
    """What to do with a run in which nothing is busy (`hot/sql/08_finalise.sql`). `census`: if it is over."""

    verdict: Literal["busy", "released", "resting", "over"]
    ready: list[Ready]
    census: Census | None


def missing_values(session: Session, run_id: UUID, plan: Plan, census: Census) -> dict[int, dict[str, int]]:
    """What the leftovers lack: node → pin → how many of its INCOMPLETE executions wait for a value on it."""
    return {
        count.node: _missing(session, run_id, plan.nodes[count.node])
        for count in census.counts
        if count.status is NodeStatus.INCOMPLETE
    }


def first_failure(session: Session, run_id: UUID, plan: Plan, census: Census) -> FirstFailure | None:
    """The first failure that nothing handled; None if there is none."""
    nodes = [c.node for c in census.counts if c.status is NodeStatus.FAILED and failure_is_unhandled(plan, c.node)]
    if not nodes:
        return None
    node, reason, error = session.execute(
        select(NodeExecution.node, NodeExecution.reason, NodeExecution.error)
        .where(NodeExecution.run_id == run_id, NodeExecution.node.in_(nodes), NodeExecution.status == NodeStatus.FAILED)
        .order_by(NodeExecution.ended_at, NodeExecution.node, NodeExecution.idx)
        .limit(1)
    ).one()
    return FirstFailure(node, reason, error or "")


def _missing(session: Session, run_id: UUID, node: PlanNode) -> dict[str, int]:
    incomplete = session.scalars(
        select(NodeExecution.idx).where(
            NodeExecution.run_id == run_id,
            NodeExecution.node == node.number,
            NodeExecution.status == NodeStatus.INCOMPLETE,
            NodeExecution.have > 0,
        )
    ).all()
    delivered = session.execute(
        select(Delivery.pin, func.count().label("count"))
        .where(Delivery.run_id == run_id, Delivery.node == node.number, Delivery.idx == func.any(list(incomplete)))
        .group_by(Delivery.pin)
    )
    have = {pin: int(count) for pin, count in delivered}
    stays = static_values(session, run_id, [node.number]).get(node.number, set())
    wanted = Counter(pin for idx in incomplete for pin in node.awaited(idx) if pin not in stays)
    return {pin: lacking for pin, count in wanted.items() if (lacking := count - have.get(pin, 0)) > 0}


def static_values(session: Session, run_id: UUID, nodes: Sequence[int]) -> Mapping[int, set[str]]:
    """The static pins of these nodes that have a value, which counts for every execution: node → pins."""
    found: dict[int, set[str]] = {}
    for node, pin in session.execute(
        select(StickyValue.node, StickyValue.pin).where(StickyValue.run_id == run_id, StickyValue.node.in_(nodes))
    ):
        found.setdefault(node, set()).add(pin)
    return found


def open_children(session: Session, run_id: UUID) -> Sequence[UUID]:
    """Its child runs that have not ended."""
    return session.scalars(select(Run.id).where(Run.parent_run_id == run_id, Run.ended_at.is_(None))).all()
