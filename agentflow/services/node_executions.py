"""Shows the node executions of a run: inputs, state and outputs."""

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
from agentflow.graph.scoped_masks import Masks, masks_of
from agentflow.schemas.runs import NodeExecutionList, NodeExecutionView, WaitView
from agentflow.services import cursors, secrecy, values
from agentflow.services.cursors import PageRequest
from agentflow.services.plans import plan_of
from agentflow.services.run_views import find
from agentflow.settings import settings
from agentflow.storage import lanes
from agentflow.storage.runs import static_values
from agentflow.storage.views import node_executions as node_views
from agentflow.storage.views.node_executions import Budget, Key, Source
from agentflow.storage.views.runs import AnyRow


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
    asked: PageRequest,
    budget: Budget = values.SHORT,
) -> NodeExecutionList:
    """One page of the run's node executions, by node and index.

    Raises:
        NotFound: the owner has no such run.
    """
    run = find(session, owner_id, run_id)
    plan = plan_of(session, run.graph_id, run.graph_version)
    masks = masks_of(run.graph_id, loads(run.masks) if run.masks else {})
    of = f"nodes/{run_id}"
    key = cursors.integers(of, asked.after, 2)
    found = node_views.page(
        session,
        run_id,
        node=_number(plan, wanted.node_id),
        idx=wanted.index,
        status=wanted.status,
        after=Key(*key) if key else None,
        limit=asked.limit + 1,
    )
    rows, cursor = asked.cut(of, found, lambda row: (row.node, row.idx))
    shown = _Shown(session, run_id, plan.masked(masks) if masks else plan, masks, rows, budget)
    return NodeExecutionList(items=[shown.view(row) for row in rows], next_cursor=cursor)


def _number(plan: Plan, node_id: str | None) -> int | None:
    if node_id is None:
        return None
    try:
        return plan.node(node_id).number
    except KeyError:
        return -2  # no node has this id, so the page is empty


class _Shown:
    """What belongs to the node executions `rows` of one page, read with one query of each kind."""

    def __init__(
        self,
        session: Session,
        run_id: UUID,
        plan: Plan,
        masks: Masks,
        rows: list[AnyRow],
        budget: Budget,
    ) -> None:
        keys = [Key(row.node, row.idx) for row in rows]
        pins = [(row.node, pin, row.idx) for row in rows for pin in _fed(plan.nodes[row.node])]
        waited = [key for row, key in zip(rows, keys, strict=True) if row.waited]
        idle = any(row.status == NodeStatus.QUEUED and row.hold is None for row in rows)
        incomplete = {row.node for row in rows if row.status == NodeStatus.INCOMPLETE}
        self._plan, self._masks = plan, masks
        self._delivered = node_views.delivered(session, run_id, pins, budget)
        self._outputs = node_views.outputs(session, run_id, keys, budget)
        self._waits = node_views.waits(session, run_id, waited)
        self._children = node_views.child_runs(session, run_id, waited)
        self._served = lanes.served(session) if idle else frozenset()
        self._static = static_values(session, run_id, list(incomplete)) if incomplete else {}

    def view(self, row: AnyRow) -> NodeExecutionView:
        """The view of one of the rows."""
        node, key = self._plan.nodes[row.node], Key(row.node, row.idx)
        given = self._outputs.get(key, [])
        outputs: dict[str, list[Any]] = {}
        for pin, value in given:
            outputs.setdefault(pin, []).append(secrecy.hide_output(node, pin, values.shown(value)))
        wait = self._waits.get(key)
        return NodeExecutionView(
            id=f"{node.id}/{row.idx}",
            node_id=node.id,
            block=node.block_name,
            title=node.title,
            index=row.idx,
            status=row.status,
            reason=row.reason,
            attempt=row.attempt,
            inputs=self._inputs(node, key),
            outputs=outputs,
            outputs_truncated=len(given) < row.emitted or any(value.text is None for _, value in given),
            waiting_for=self._lacking(node, key) if row.status == NodeStatus.INCOMPLETE else [],
            wait=WaitView.model_validate(wait._mapping) if wait and row.status == NodeStatus.WAITING else None,
            child_runs=self._children.get(key, []),
            hold=self._hold(node, row),
            error=row.error,
            traceback=row.trace if settings().show_tracebacks else None,
            queued_at=row.queued_at,
            started_at=row.started_at,
            ended_at=row.ended_at,
            worker=row.holder,
            stats=_stats(row, wait),
        )

    def _inputs(self, node: PlanNode, key: Key) -> dict[str, Any]:
        delivered = self._delivered.get(key, {})
        arrived = {pin: self._hidden(source) or values.shown(value) for pin, (source, value) in delivered.items()}
        return secrecy.hide_inputs(node, collect_shown(node, arrived, self._masks.get(node.id, {})))

    def _hidden(self, source: Source) -> str | None:
        """What to show of a value from a secret place; None: the value. (A run's inputs are hidden by their target.)"""
        if source.node >= 0 and secrecy.hides_output(self._plan.nodes[source.node], source.pin):
            return secrecy.HIDDEN
        return None

    def _lacking(self, node: PlanNode, key: Key) -> list[str]:
        have = self._delivered.get(key, {}).keys() | self._static.get(node.number, set())
        return [pin for pin in node.awaited(key.idx) if pin not in have]

    def _hold(self, node: PlanNode, row: AnyRow) -> str | None:
        """Why nobody works on it although it is QUEUED."""
        if row.status != NodeStatus.QUEUED:
            return None
        is_due = row.due_at is None or row.due_at <= now()
        return row.hold or (UNSERVED if is_due and node.lane not in self._served else None)


def _fed(node: PlanNode) -> set[str]:
    """The pins that values can be delivered to: the linked ones, and those of the run's inputs."""
    return {*node.pins, "value"} if node.kind is BlockKind.INPUT else set(node.pins)


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
