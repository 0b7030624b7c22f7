"""What has come of a child run, for the node execution that waits for it?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session, aliased

from agentflow.engine.statuses import NODE_TERMINAL
from agentflow.storage.runs import Parent
from agentflow.storage.tables import NodeExecution, Output, Run

OUTPUT_PIN = "output"
NAME_PIN = "name"


class Child(NamedTuple):
    """A child run."""

    id: UUID
    graph_id: UUID
    graph_version: int
    status: str
    error: str | None
    stop_reason: str | None
    ended: bool


class OutputLine(NamedTuple):
    """One output of a run: which node gave it, the name that came with it (JSON text), and the value (JSON text)."""

    node: int
    name: str | None
    value: str


@dataclass(frozen=True, slots=True)
class Found:
    """Outputs in the order in which their node executions ended, and up to which execution of each node they go."""

    lines: Sequence[OutputLine]
    past: Mapping[int, int]
    more: bool


def find(session: Session, parent: Parent) -> Child | None:
    """The child run of a node execution."""
    return _child(
        session,
        Run.parent_run_id == parent.run_id,
        Run.parent_node == parent.node,
        Run.parent_idx == parent.idx,
        Run.parent_call == parent.call,
    )


def get(session: Session, run_id: UUID) -> Child | None:
    """The run itself."""
    return _child(session, Run.id == run_id)


def _child(session: Session, *which: ColumnElement[bool]) -> Child | None:
    row = session.execute(
        select(Run.id, Run.graph_id, Run.graph_version, Run.status, Run.error, Run.stop_reason, Run.ended_at).where(
            *which
        )
    ).one_or_none()
    if row is None:
        return None
    return Child(
        row.id, row.graph_id, row.graph_version, row.status, row.error, row.stop_reason, row.ended_at is not None
    )


def outputs(session: Session, run_id: UUID, nodes: Sequence[int], past: Mapping[int, int], limit: int) -> Found:
    """What the output nodes gave behind execution `past[node]` of each: only what no later one can come before."""
    ended: list[tuple[datetime, int, int]] = []
    more = False
    for node in nodes:
        rows = session.execute(
            select(NodeExecution.idx, NodeExecution.status, NodeExecution.ended_at)
            .where(NodeExecution.run_id == run_id, NodeExecution.node == node, NodeExecution.idx > past.get(node, 0))
            .order_by(NodeExecution.idx)
            .limit(limit)
        ).all()
        more = more or len(rows) == limit
        for row in rows:
            if row.status not in NODE_TERMINAL:
                break
            ended.append((row.ended_at, node, row.idx))
    ended.sort()
    more = more or len(ended) > limit
    taken = ended[:limit]
    reached = {**past}
    for _, node, idx in taken:
        reached[node] = max(reached.get(node, 0), idx)
    lines = [line for _, node, idx in taken for line in _lines(session, run_id, node, idx)]
    return Found(lines, reached, more)


def _lines(session: Session, run_id: UUID, node: int, idx: int) -> list[OutputLine]:
    named = aliased(Output)
    rows = session.execute(
        select(Output.value, named.value.label("name"))
        .outerjoin(
            named,
            (named.run_id == run_id)
            & (named.node == node)
            & (named.idx == idx)
            & (named.ordinal == Output.ordinal + 1)
            & (named.part == 0)
            & (named.pin == NAME_PIN),
        )
        .where(
            Output.run_id == run_id,
            Output.node == node,
            Output.idx == idx,
            Output.part == 0,
            Output.pin == OUTPUT_PIN,
        )
        .order_by(Output.ordinal)
    )
    return [OutputLine(node, row.name, row.value) for row in rows]


def node_outputs(session: Session, run_id: UUID, node: int, limit: int) -> Sequence[tuple[str, str]]:
    """(pin, value as JSON text) of all that a node's first execution gave, in order."""
    rows = session.execute(
        select(Output.pin, Output.value)
        .where(Output.run_id == run_id, Output.node == node, Output.idx == 1, Output.part == 0)
        .order_by(Output.ordinal)
        .limit(limit)
    )
    return [(row.pin, row.value) for row in rows]
