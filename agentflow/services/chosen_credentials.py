"""Turns the credentials that a submission names into masks of the pins that take them, also in its sub-graphs.

So a run records which it uses as it records any other value of a pin, and child runs inherit them. A mask that the
submission itself has for a pin counts before these.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.blocks.registry import catalogue
from agentflow.credentials import checking
from agentflow.errors import Problem
from agentflow.graph.model import Graph
from agentflow.graph.schemas import keyed_credentials
from agentflow.services import sub_graphs

Masks = Mapping[str, Mapping[str, Any]]


def as_masks(
    session: Session, owner_id: UUID, graph: Graph, credentials: Mapping[str, Mapping[str, Any]], masks: Masks
) -> tuple[dict[str, dict[str, Any]], tuple[Problem, ...]]:
    """`masks` with the credentials of a submission, and what is wrong with them.

    Those of the graph's own nodes are not checked here, as they are with all its masks; those of its sub-graphs are.
    """
    found = list(keyed_credentials(sub_graphs.complete(session, owner_id, graph), catalogue))
    keys = dict.fromkeys(key for key, _ in found)
    takes = ", ".join(keys) or "none"
    unknown = [key for key in credentials if key not in keys]
    problems = [Problem(f"credentials: the graph takes no {key!r}; it takes {takes}") for key in unknown]
    merged = {node: dict(pins) for node, pins in masks.items()}
    chosen = [replace(need, value=dict(credentials[key]), later=False) for key, need in found if key in credentials]
    for need in chosen:
        merged.setdefault(need.node.id, {}).setdefault(need.pin.name, need.value)
    own = {id(node) for node in graph.nodes}  # by identity: a sub-graph may have nodes of the same ids
    inner = [need for need in chosen if id(need.node) not in own]
    return merged, (*problems, *checking.problems(session, owner_id, inner))
