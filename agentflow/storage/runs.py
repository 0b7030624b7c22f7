"""How is a run written: created, stopped, finalised? (Its node executions: `node_executions.py`.)

Each function works in the caller's transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import Row, func, insert, literal_column, select, text, update
from sqlalchemy.orm import Session

from agentflow.engine.codec import dumps
from agentflow.engine.statuses import RUN_TERMINAL, NodeStatus, RunStatus
from agentflow.engine.verdict import NodeCount, failure_is_unhandled
from agentflow.errors import AlreadyEnded, NotFound
from agentflow.graph.plan import Plan
from agentflow.storage.tables import RUN_INPUTS_NODE, Delivery, Event, NodeExecution, Output, Run

_RING_GRACE = timedelta(seconds=5)  # as agentflow_ring_grace(): recovery looks at an unclaimed one after this


class Ready(NamedTuple):
    """A node execution that is QUEUED and must be published."""

    node: int
    idx: int


@dataclass(frozen=True, slots=True)
class NewRun:
    """What a run is created from. `inputs` and `masks` are JSON values; `plan` is the graph's, without the masks."""

    id: UUID
    owner_id: UUID
    plan: Plan
    inputs: Mapping[str, Any] = field(default_factory=dict)
    masks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    labels: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 5
    deadline_at: datetime | None = None


class StopOutcome(NamedTuple):
    """`verdict`: stopped now, or it was already. `running`: node executions that a worker still holds."""

    verdict: Literal["stopped", "already"]
    running: int


def create(session: Session, new: NewRun) -> list[Ready]:
    """Write the run, its inputs and its starting node executions; returns these, to be published after the commit.

    The inputs are stored as the outputs of node −1 and delivered to the input nodes' `value`, once, like any value.
    """
    session.execute(
        insert(Run).values(
            id=new.id,
            owner_id=new.owner_id,
            graph_id=new.plan.graph_id,
            graph_version=new.plan.version,
            status=RunStatus.QUEUED,
            masks=dumps(dict(new.masks)) if new.masks else None,
            labels=dict(new.labels),
            priority=new.priority,
            deadline_at=new.deadline_at,
            root_id=new.id,
        )
    )
    plan = new.plan.masked(new.masks) if new.masks else new.plan
    starting = plan.starting()
    now: datetime = session.scalar(select(func.agentflow_now()))  # type: ignore[assignment]
    session.execute(
        insert(NodeExecution),
        [
            {
                "run_id": new.id,
                "node": node.number,
                "idx": 1,
                "status": NodeStatus.QUEUED,
                "open": True,
                "have": node.need,
                "need": node.need,
                "queued_at": now,
                "check_at": now + _RING_GRACE,
            }
            for node in starting
        ],
    )
    _store_inputs(session, new, {name: node.number for name, node in plan.inputs.items()})
    session.execute(insert(Event).values(run_id=new.id, kind="run", status=RunStatus.QUEUED))
    return [Ready(node.number, 1) for node in starting]


def _store_inputs(session: Session, new: NewRun, input_nodes: Mapping[str, int]) -> None:
    names = list(new.inputs)
    if not names:
        return
    key = {"run_id": new.id}
    session.execute(
        insert(Output),
        [
            {
                **key,
                "node": RUN_INPUTS_NODE,
                "idx": 1,
                "ordinal": ordinal,
                "part": 0,
                "pin": name,
                "value": dumps(new.inputs[name]),
            }
            for ordinal, name in enumerate(names)
        ],
    )
    delivered = [
        {
            **key,
            "node": input_nodes[name],
            "pin": "value",
            "idx": 1,
            "source_node": RUN_INPUTS_NODE,
            "source_idx": 1,
            "source_ordinal": ordinal,
            "source_part": 0,
            "filled": False,
        }
        for ordinal, name in enumerate(names)
        if name in input_nodes
    ]
    if delivered:
        session.execute(insert(Delivery), delivered)


def stop(session: Session, run_id: UUID, stop_as: RunStatus, reason: str) -> StopOutcome:
    """Stop a run, to end as `stop_as`; takes its gate alone. Stopping twice is fine, and the first one counts.

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


class Census(NamedTuple):
    """What a run has come to."""

    counts: Sequence[NodeCount]
    missing: Mapping[int, Mapping[str, int]]  # leftovers: node → pin → how many of them wait for a value on it
    first_failure: tuple[int, str] | None  # node and message of the first failure that nothing handled


def lock_quiescent(session: Session, run_id: UUID) -> Row[Any] | None:
    """Take the run's gate alone; its row if it is neither ended nor has anything open, else None."""
    session.execute(select(func.agentflow_gate_alone(run_id)))
    run = session.execute(select(Run.__table__).where(Run.id == run_id).with_for_update(key_share=True)).one_or_none()
    if run is None or run.status in RUN_TERMINAL:
        return None
    still_open = session.scalar(
        select(literal_column("true")).where(
            select(NodeExecution.idx).where(NodeExecution.run_id == run_id, text("open")).exists()
        )
    )
    return None if still_open else run


def census(session: Session, run_id: UUID, plan: Plan) -> Census:
    """Count the run's node executions; the gate is held."""
    rows = session.execute(
        select(
            NodeExecution.node,
            NodeExecution.status,
            func.count(),
            func.count().filter(NodeExecution.attempt > 0),
        )
        .where(NodeExecution.run_id == run_id)
        .group_by(NodeExecution.node, NodeExecution.status)
        .order_by(NodeExecution.node)
    )
    counts = [NodeCount(node, NodeStatus(status), count, started) for node, status, count, started in rows]
    missing = {
        count.node: _missing(session, run_id, count.node, plan.nodes[count.node].pins)
        for count in counts
        if count.status is NodeStatus.INCOMPLETE
    }
    return Census(counts, missing, _first_failure(session, run_id, plan, counts))


def _first_failure(session: Session, run_id: UUID, plan: Plan, counts: Sequence[NodeCount]) -> tuple[int, str] | None:
    nodes = [c.node for c in counts if c.status is NodeStatus.FAILED and failure_is_unhandled(plan, c.node)]
    if not nodes:
        return None
    node, error = session.execute(
        select(NodeExecution.node, NodeExecution.error)
        .where(NodeExecution.run_id == run_id, NodeExecution.node.in_(nodes), NodeExecution.status == NodeStatus.FAILED)
        .order_by(NodeExecution.ended_at, NodeExecution.node, NodeExecution.idx)
        .limit(1)
    ).one()
    return node, error or ""


def _missing(session: Session, run_id: UUID, node: int, pins: Mapping[str, bool]) -> dict[str, int]:
    incomplete = select(NodeExecution.idx).where(
        NodeExecution.run_id == run_id, NodeExecution.node == node, NodeExecution.status == NodeStatus.INCOMPLETE
    )
    total = session.scalar(select(func.count()).select_from(incomplete.subquery())) or 0
    delivered = session.execute(
        select(Delivery.pin, func.count().label("count"))
        .where(Delivery.run_id == run_id, Delivery.node == node, Delivery.idx.in_(incomplete))
        .group_by(Delivery.pin)
    )
    have = {pin: int(count) for pin, count in delivered}
    return {pin: lacking for pin in pins if (lacking := total - have.get(pin, 0)) > 0}


def finish(
    session: Session, run_id: UUID, status: RunStatus, reason: str | None, error: str | None, stats: Mapping[str, Any]
) -> None:
    """Record how the run ended; the gate is held and nothing is open. Adds its duration in seconds to `stats`."""
    ended_at, started_at = session.execute(
        update(Run)
        .where(Run.id == run_id)
        .values(status=status, reason=reason, error=error, ended_at=func.agentflow_now())
        .returning(Run.ended_at, Run.started_at)
    ).one()
    duration = (ended_at - started_at).total_seconds() if started_at and ended_at else 0.0
    session.execute(update(Run).where(Run.id == run_id).values(stats={**stats, "duration": round(duration, 6)}))
    session.execute(insert(Event).values(run_id=run_id, kind="run", status=status, reason=reason))
