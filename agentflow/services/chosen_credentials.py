"""Turns the credentials that a submission names into masks of the pins that take them, also in its sub-graphs.

So a run records which it uses as it records any other value of a pin, and child runs inherit them. A mask that the
submission itself has for a pin counts before these. Where several graphs have a node of the same id, each gets what is
chosen for it, and nothing that is for another.
"""

from collections import defaultdict
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
from agentflow.graph.scoped_masks import Masks, scoped
from agentflow.services import sub_graphs


def as_masks(
    session: Session, owner_id: UUID, graph: Graph, credentials: Mapping[str, Mapping[str, Any]], masks: Masks
) -> tuple[dict[str, dict[str, Any]], tuple[Problem, ...]]:
    """`masks` with the credentials of a submission, and what is wrong with them.

    Those of the graph's own nodes are not checked here, as they are with all its masks; those of its sub-graphs are.
    """
    whole = sub_graphs.complete(session, owner_id, graph)
    found = list(keyed_credentials(whole, catalogue))
    keys = dict.fromkeys(key for key, _ in found)
    takes = ", ".join(keys) or "none"
    unknown = [key for key in credentials if key not in keys]
    problems = [Problem(f"credentials: the graph takes no {key!r}; it takes {takes}") for key in unknown]
    merged = {node: dict(pins) for node, pins in masks.items()}
    chosen = [replace(need, value=dict(credentials[key]), later=False) for key, need in found if key in credentials]
    parts = (whole, *whole.sub_graphs)
    places = {id(node): part.id for part in parts for node in part.nodes}  # by identity: ids may be the same
    graphs: dict[str, set[UUID]] = defaultdict(set)
    for part in parts:
        for node in part.nodes:
            graphs[node.id].add(part.id)
    for need in chosen:
        node_id, pin = need.node.id, need.pin.name
        if pin not in masks.get(node_id, {}):
            name = node_id if len(graphs[node_id]) == 1 else scoped(places[id(need.node)], node_id)
            merged.setdefault(name, {}).setdefault(pin, need.value)
    own = {id(node) for node in graph.nodes}
    inner = [need for need in chosen if id(need.node) not in own]
    return merged, (*problems, *checking.problems(session, owner_id, inner))
