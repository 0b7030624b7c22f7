"""Admits runs of an owner that may start now (`hot/sql/10_limits.sql`)."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session


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
