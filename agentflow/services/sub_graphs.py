"""Finds the graphs that a graph runs: parts of its document, which are stored with it, and others of its owner.

A graph's parts become graphs of their own with new ids and one version; each new version of the graph stores new ones.
They are not listed, and are hidden with the graph. All ids are chosen before anything is stored, so that graphs may run
each other and themselves.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.errors import Problem
from agentflow.graph.exchange import Reference, References, distinct_parts, referred_graphs
from agentflow.graph.model import Graph
from agentflow.ids import new_id
from agentflow.services import documents
from agentflow.services.plans import document_of
from agentflow.storage import graphs as stored


@dataclass(frozen=True, slots=True)
class Placed:
    """A graph and its parts under the ids by which they are stored. The graph's `sub_graphs` are these parts."""

    graph: Graph
    parts: tuple[Graph, ...]


def placed(given: Graph, graph_id: UUID, version: int) -> Placed:
    """`given` as a version of `graph_id`, with its parts as graphs of their own and all references to them."""
    inner = distinct_parts(given)
    own: dict[Reference, Reference] = {key: (new_id(), 1) for key in inner}
    references = References(given, own | {(given.id, given.version): (graph_id, version)})
    parts = tuple(
        documents.named(references.follow(part.model_copy(update={"sub_graphs": []})), *own[key])
        for key, part in inner.items()
    )
    root = references.follow(given.model_copy(update={"sub_graphs": list(parts)}))
    return Placed(documents.named(root, graph_id, version), parts)


def complete(session: Session, owner_id: UUID, graph: Graph) -> Graph:
    """`graph` with all graphs that it runs among its parts, on all levels, also those stored separately."""
    found = {(graph.id, graph.version): graph} | distinct_parts(graph)
    waiting = list(found.values())
    while waiting:
        for _, graph_id, version in referred_graphs(waiting.pop()):
            if (graph_id, version) in found or (head := stored.find(session, owner_id, graph_id)) is None:
                continue
            key = (graph_id, version or head.latest_version)
            if key not in found and key[1] <= head.latest_version:
                found[key] = document_of(session, *key)
                new = [found[key], *distinct_parts(found[key]).values()]
                found |= {(part.id, part.version): part for part in new if (part.id, part.version) not in found}
                waiting += new
    parts = [part.model_copy(update={"sub_graphs": []}) for part in list(found.values())[1:]]
    return graph.model_copy(update={"sub_graphs": parts})


def missing(
    session: Session, owner_id: UUID, graph: Graph, severity: Literal["error", "warning"], *, with_parts: bool
) -> tuple[Problem, ...]:
    """A problem for each sub-graph node whose graph is neither in the document nor the owner's.

    Args:
        session: the transaction.
        owner_id: whose graph it is.
        graph: the graph.
        severity: of the problems.
        with_parts: look at the sub-graph nodes of its parts too.
    """
    parts = distinct_parts(graph)
    references = References(graph, {key: key for key in ((graph.id, graph.version), *parts)})
    wanted = [
        (part, node.id, graph_id, version)
        for part in (graph, *(parts.values() if with_parts else ()))
        for node, graph_id, version in referred_graphs(part)
        if references.new_name(graph_id, version) is None
    ]
    latest = stored.latest_versions(session, owner_id, {graph_id for _, _, graph_id, _ in wanted})
    return tuple(_told(graph, wanted, latest, severity))


def _told(
    root: Graph,
    wanted: list[tuple[Graph, str, UUID, int | None]],
    latest: dict[UUID, int],
    severity: Literal["error", "warning"],
) -> Iterator[Problem]:
    for graph, node_id, graph_id, version in wanted:
        if version is None or graph_id not in latest:
            message = f"there is no graph {graph_id} for this node to run"
        else:
            message = f"graph {graph_id} has no version {version} for this node to run"
        problem = Problem(message, node_id, "graph_id", severity)
        if graph_id not in latest or (version is not None and not 0 < version <= latest[graph_id]):
            inner = graph is not root
            yield replace(problem, message=f"sub-graph '{graph.name or graph.id}': {message}") if inner else problem
