"""Shows the node executions of a run: inputs, state and outputs."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.clock import now
from agentflow.engine.codec import loads
from agentflow.engine.inputs import collect_shown
from agentflow.engine.statuses import UNSERVED, NodeStatus
from agentflow.graph.catalogue import BlockKind
from agentflow.graph.plan import Plan, PlanNode
from agentflow.schemas.runs import NodeExecutionList, NodeExecutionView, WaitView
from agentflow.services import cursors, secrecy, values
from agentflow.services.plans import plan_of
from agentflow.services.run_views import find
from agentflow.settings import settings
from agentflow.storage import lanes
from agentflow.storage.runs import static_values
from agentflow.storage.views import node_executions as node_views
from agentflow.storage.views.node_executions import Budget, Key, Source, Value
from agentflow.storage.views.runs import AnyRow

_Delivered = dict[str, tuple[Source, Value]]


@dataclass(frozen=True, slots=True)
class NodeFilter:
    """Which node executions are wanted; None: all of them."""

    node_id: str | None = None
    index: int | None = None
    status: NodeStatus | None = None


def page(
    session: Session,
    owner_id: UUID,
    run_id: UUID,
    wanted: NodeFilter,
    after: str | None,
    limit: int,
    budget: Budget = values.SHORT,
) -> NodeExecutionList:
    """One page of the run's node executions, by node and index.

    Raises:
        NotFound: the owner has no such run.
    """
    run = find(session, owner_id, run_id)
    plan = plan_of(session, run.graph_id, run.graph_version)
    masks: dict[str, dict[str, Any]] = loads(run.masks) if run.masks else {}
    number = _number(plan, wanted.node_id)
    key = cursors.integers(f"nodes/{run_id}", after, 2)
    rows = node_views.page(
        session,
        run_id,
        node=number,
        idx=wanted.index,
        status=wanted.status,
        after=Key(*key) if key else None,
        limit=limit + 1,
    )
    items = _views(session, run_id, plan.masked(masks) if masks else plan, masks, list(rows[:limit]), budget)
    last = rows[limit - 1] if len(rows) > limit else None
    return NodeExecutionList(
        items=items, next_cursor=cursors.cursor(f"nodes/{run_id}", last.node, last.idx) if last else None
    )


def _number(plan: Plan, node_id: str | None) -> int | None:
    if node_id is None:
        return None
    try:
        return plan.node(node_id).number
    except KeyError:
        return -2  # no node has this id, so the page is empty


def _views(
    session: Session,
    run_id: UUID,
    plan: Plan,
    masks: dict[str, dict[str, Any]],
    rows: list[AnyRow],
    budget: Budget,
) -> list[NodeExecutionView]:
    keys = [Key(row.node, row.idx) for row in rows]
    pins = [(row.node, pin, row.idx) for row in rows for pin in _fed(plan.nodes[row.node])]
    delivered = node_views.delivered(session, run_id, pins, budget)
    given = node_views.outputs(session, run_id, keys, budget)
    idle = any(row.status == NodeStatus.QUEUED and row.hold is None for row in rows)
    served = lanes.served(session) if idle else frozenset()
    waited = [key for row, key in zip(rows, keys, strict=True) if row.waited]
    waits = node_views.waits(session, run_id, waited)
    children = node_views.child_runs(session, run_id, waited)
    incomplete = {row.node for row in rows if row.status == NodeStatus.INCOMPLETE}
    stays = static_values(session, run_id, list(incomplete)) if incomplete else {}
    return [
        _view(
            plan,
            row,
            _inputs(plan, plan.nodes[row.node], delivered.get(key, {}), masks),
            given.get(key, []),
            [
                pin
                for pin in plan.nodes[row.node].awaited(row.idx)
                if pin not in delivered.get(key, {}) and pin not in stays.get(row.node, ())
            ],
            waits.get(key),
            children.get(key, []),
            _hold(plan.nodes[row.node], row, served),
        )
        for row, key in zip(rows, keys, strict=True)
    ]


def _fed(node: PlanNode) -> set[str]:
    """The pins that values can be delivered to: the linked ones, and those of the run's inputs."""
    return {*node.pins, "value"} if node.kind is BlockKind.INPUT else set(node.pins)


def _inputs(plan: Plan, node: PlanNode, delivered: _Delivered, masks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    arrived = {pin: _hidden(plan, source) or values.shown(value) for pin, (source, value) in delivered.items()}
    return secrecy.hide_inputs(node, collect_shown(node, arrived, masks.get(node.id, {})))


def _hidden(plan: Plan, source: Source) -> str | None:
    """What to show of a value from a secret place; None: the value. (A run's inputs are hidden by their target.)"""
    return secrecy.HIDDEN if source.node >= 0 and secrecy.hides_output(plan.nodes[source.node], source.pin) else None


def _hold(node: PlanNode, row: AnyRow, served: Collection[str]) -> str | None:
    """Why nobody works on it although it is QUEUED."""
    if row.status != NodeStatus.QUEUED:
        return None
    is_due = row.due_at is None or row.due_at <= now()
    return row.hold or (UNSERVED if is_due and node.lane not in served else None)


def _view(
    plan: Plan,
    row: AnyRow,
    inputs: dict[str, Any],
    given: list[tuple[str, Value]],
    lacking: list[str],
    wait: AnyRow | None,
    child_runs: list[UUID],
    hold: str | None,
) -> NodeExecutionView:
    node = plan.nodes[row.node]
    outputs: dict[str, list[Any]] = {}
    for pin, value in given:
        outputs.setdefault(pin, []).append(secrecy.hide_output(node, pin, values.shown(value)))
    return NodeExecutionView(
        id=f"{node.id}/{row.idx}",
        node_id=node.id,
        block=node.block_name,
        title=node.title,
        index=row.idx,
        status=row.status,
        reason=row.reason,
        attempt=row.attempt,
        inputs=inputs,
        outputs=outputs,
        outputs_truncated=len(given) < row.emitted or any(value.text is None for _, value in given),
        waiting_for=lacking if row.status == NodeStatus.INCOMPLETE else [],
        wait=WaitView.model_validate(wait._mapping) if wait is not None and row.status == NodeStatus.WAITING else None,
        child_runs=child_runs,
        hold=hold,
        error=row.error,
        traceback=row.trace if settings().show_tracebacks else None,
        queued_at=row.queued_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        worker=row.holder,
        stats=_stats(row, wait),
    )


def _stats(row: AnyRow, wait: AnyRow | None) -> dict[str, Any]:
    """`waited`: seconds of the waits that are over. `duration`: seconds from first start to end without them."""
    counted = {"outputs": row.emitted, "failures": row.failures, "losses": row.losses}
    stats: dict[str, Any] = {**(row.stats or {}), **counted}
    if wait is not None:
        stats["waited"] = round(wait.seconds, 6)
    if row.started_at is not None and row.ended_at is not None:
        whole = (row.ended_at - row.started_at).total_seconds()
        stats["duration"] = round(max(whole - stats.get("waited", 0.0), 0.0), 6)
    return stats
