"""Shows runs: one with its inputs and outputs, a page of runs, or a page of outputs."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.engine.codec import dumps, loads
from agentflow.engine.statuses import NodeStatus
from agentflow.errors import NotFound
from agentflow.graph.catalogue import BlockKind
from agentflow.graph.plan import Plan, PlanNode
from agentflow.schemas.runs import OutputItem, OutputList, ParentRun, RunList, RunSummary, RunView
from agentflow.services import cursors, lanes, secrecy, values
from agentflow.services.cursors import PageRequest
from agentflow.services.plans import plan_of
from agentflow.storage.views import node_executions as node_views
from agentflow.storage.views import runs as run_views
from agentflow.storage.views.node_executions import OutputLine
from agentflow.storage.views.runs import AnyRow
from agentflow.storage.views.runs import RunFilter as RunFilter  # callers of `page` make one

MAX_OUTPUTS_SHOWN: Final = 1000
"""Outputs in the view of a run; all of them are in the pages of `outputs`."""

_RAN = (NodeStatus.RUNNING, NodeStatus.WAITING, NodeStatus.COMPLETED, NodeStatus.FAILED)


def find(session: Session, owner_id: UUID, run_id: UUID) -> AnyRow:
    """The run's row.

    Raises:
        NotFound: the owner has no such run.
    """
    run = run_views.find(session, owner_id, run_id)
    if run is None:
        raise NotFound(f"there is no run {run_id}")
    return run


def get(session: Session, owner_id: UUID, run_id: UUID) -> RunView:
    """The run, with inputs, outputs (up to `MAX_OUTPUTS_SHOWN`) and counts.

    Raises:
        NotFound: the owner has no such run.
    """
    run = find(session, owner_id, run_id)
    plan = plan_of(session, run.graph_id, run.graph_version)
    inputs = {name: loads(text) for name, text in run_views.inputs(session, run_id).items()}
    lines = _lines(session, run_id, plan, limit=MAX_OUTPUTS_SHOWN + 1)
    shown: dict[str, list[Any]] = {}
    for line in lines[:MAX_OUTPUTS_SHOWN]:
        shown.setdefault(_name(plan, line), []).append(_value(plan, line))
    return RunView(
        **summary(session, run).model_dump(),
        inputs=secrecy.hide_run_inputs(plan, inputs),
        outputs=shown,
        outputs_truncated=len(lines) > MAX_OUTPUTS_SHOWN or any(line.value.text is None for line in lines),
        stats=run.stats if run.stats is not None else _present_stats(session, run_id),
        costs={plan.nodes[node].id: cost for node, cost in run_views.costs(session, run_id, run.root_id).items()},
        unserved_queues=lanes.unserved(session, run_id, plan) if run.ended_at is None else [],
    )


def page(session: Session, owner_id: UUID, wanted: RunFilter, asked: PageRequest) -> RunList:
    """One page of the owner's runs, the newest first."""
    found = run_views.page(session, owner_id, wanted, cursors.identifier("runs", asked.after), asked.limit + 1)
    rows, cursor = asked.cut("runs", found, lambda run: (run.id,))
    return RunList(items=[summary(session, run) for run in rows], next_cursor=cursor)


def outputs(session: Session, owner_id: UUID, run_id: UUID, name: str | None, asked: PageRequest) -> OutputList:
    """One page of a run's outputs, by output node, in order; `name` keeps those of one name.

    If output nodes may share a name, they are in the order in which they became final, as a parent gets them.

    Raises:
        NotFound: the owner has no such run.
    """
    run = find(session, owner_id, run_id)
    plan = plan_of(session, run.graph_id, run.graph_version)
    of = f"outputs/{run_id}"
    key = cursors.integers(of, asked.after, 3)
    place = (key[0], key[1], key[2]) if key else None
    found = _lines(session, run_id, plan, limit=asked.limit + 1, name=name, after=place, budget=values.FULL)
    lines, cursor = asked.cut(of, found, lambda line: (line.node, line.idx, line.ordinal))
    items = [
        OutputItem(name=_name(plan, line), value=_value(plan, line), node_id=plan.nodes[line.node].id, index=line.idx)
        for line in lines
    ]
    return OutputList(items=items, next_cursor=cursor)


def summary(session: Session, run: AnyRow) -> RunSummary:
    """One line of a list."""
    parent = None
    if run.parent_run_id is not None:
        node = plan_of(session, run.parent_graph_id, run.parent_graph_version).nodes[run.parent_node]
        parent = ParentRun(run_id=run.parent_run_id, node_id=node.id, index=run.parent_idx)
    return RunSummary.model_validate({**run._mapping, "parent": parent, "retries": run.retry_no})


def _lines(
    session: Session,
    run_id: UUID,
    plan: Plan,
    *,
    limit: int,
    name: str | None = None,
    after: tuple[int, int, int] | None = None,
    budget: node_views.Budget = values.SHORT,
) -> list[OutputLine]:
    nodes = [node for node in plan.nodes if node.kind is BlockKind.OUTPUT]
    if not nodes:
        return []
    wanted = None
    if name is not None:
        wanted = (dumps(name), [node.number for node in plan.outputs.get(name, ())])
    return node_views.run_outputs(
        session,
        run_id,
        [node.number for node in nodes],
        name=wanted,
        after=after,
        limit=limit,
        budget=budget,
        merged=_may_share_a_name(nodes),
    )


def _may_share_a_name(nodes: Sequence[PlanNode]) -> bool:
    """Whether two output nodes may give values of one name: they share it, or it comes with the value."""
    names = {None if "name" in node.pins else node.name for node in nodes}
    return len(nodes) > 1 and (len(names) < len(nodes) or None in names)


def _value(plan: Plan, line: OutputLine) -> Any:
    return secrecy.HIDDEN if secrecy.is_secret_output(plan.nodes[line.node]) else values.shown(line.value)


def _name(plan: Plan, line: OutputLine) -> str:
    return output_name(plan.nodes[line.node], line.name)


def output_name(node: PlanNode, given: str | None) -> str:
    """The name of an output: the one that came with the value (`given`, JSON text), else the output node's."""
    name = loads(given) if given is not None else node.name
    text = name if isinstance(name, str) else dumps(name)
    return text.encode(errors="replace").decode()  # names are part of replies, which are UTF-8


def _present_stats(session: Session, run_id: UUID) -> dict[str, Any]:
    counts = run_views.counts(session, run_id)
    return {
        "node_count": sum(counts.get(status, 0) for status in _RAN),
        "node_error_count": counts.get(NodeStatus.FAILED, 0),
        "node_executions": counts,
        "counts_truncated": sum(counts.values()) >= run_views.COUNTED,
    }
