"""Stores, reads and deletes graphs.

A graph gets a new id when it is created; its nodes keep the ids that the client gave them, which must be unique
within the graph, so that the client can name nodes in masks and find them again in events. A version never changes:
storing another document makes the next one, storing the same document makes none. A graph with open runs is not
deleted; a deleted one is hidden, because its runs refer to it.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.accounts import quota
from agentflow.blocks.registry import catalogue
from agentflow.errors import Conflict, GraphInvalid, NotFound, Problem
from agentflow.graph import exchange
from agentflow.graph.exchange import is_export
from agentflow.graph.masked_names import unknown_names
from agentflow.graph.model import AGENT_BLOCK, Graph
from agentflow.graph.plan import compile_plan
from agentflow.graph.schemas import credentials_input_schema, describe, input_schema
from agentflow.graph.wiring import Masks
from agentflow.ids import new_id
from agentflow.presets import store as presets
from agentflow.services import cursors, documents, plans, sub_graphs
from agentflow.services.cursors import PageRequest
from agentflow.services.plans import document_of
from agentflow.services.sub_graphs import Placed
from agentflow.storage import graphs as stored
from agentflow.storage.graphs import Head, NewVersion, VersionLine

_known = documents.Known()  # documents that came with runs

_COUNTED_RUNS = 100  # open runs that a refusal to delete counts, at most


@dataclass(frozen=True, slots=True)
class Saved:
    """A stored graph version. `created`: it was not there before."""

    id: UUID
    version: int
    name: str
    created: bool
    warnings: tuple[Problem, ...]
    valid: bool = True


def create(session: Session, owner_id: UUID, document: dict[str, Any], imported: bool | None = None) -> Saved:
    """Store a new graph, and its sub-graphs with it.

    Args:
        session: the transaction.
        owner_id: whose it is.
        document: what it says.
        imported: it comes from elsewhere; None: the document tells. Then it is stored even if blocks or pins are
            missing (`valid` is false, and it cannot run), and literals that do not fit only give warnings.

    Raises:
        GraphInvalid: with all problems, and their places.
        TooLarge: too many nodes, or more than one user may store.
    """
    given = documents.read(document)
    problems = documents.check(given, imported=is_export(document) if imported is None else imported)
    valid = documents.is_complete(problems)
    problems += sub_graphs.missing(session, owner_id, given.graph, "warning", with_parts=True)
    placed = sub_graphs.placed(given.graph, new_id(), 1)
    graph = placed.graph
    new = _new_version(graph, documents.fingerprint(given.graph), valid)
    stored.create(session, owner_id, graph.id, graph.name, graph.description, new)
    _store_parts(session, owner_id, placed)
    quota.refuse_beyond(session, owner_id)
    return Saved(graph.id, 1, graph.name, True, problems, valid)


def _store_parts(session: Session, owner_id: UUID, placed: Placed) -> None:
    for part in placed.parts:
        valid = documents.is_complete(documents.problems_of(part, imported=True))
        new = _new_version(part, documents.fingerprint(part), valid)
        stored.create(session, owner_id, part.id, part.name, part.description, new, placed.graph.id)


def _new_version(graph: Graph, digest: str, valid: bool) -> NewVersion:
    """What to store of a checked graph; without a plan if blocks of it or its parts are missing."""
    plan = compile_plan(graph, catalogue).to_json() if valid else None
    return NewVersion(graph.to_json(), plan, digest, graph.block_ids())


def missing_graphs(session: Session, owner_id: UUID, graph: Graph) -> tuple[Problem, ...]:
    """An error for each sub-graph node whose graph the owner does not have (any more)."""
    return sub_graphs.missing(session, owner_id, graph, "error", with_parts=False)


def unknown_in_masks(session: Session, owner_id: UUID, graph: Graph, masks: Masks) -> tuple[Problem, ...]:
    """Problems with names in the masks of a run of `graph`, which may name nodes of the graphs that it runs, too."""
    runs_others = any(node.block_id == AGENT_BLOCK for node in graph.nodes)
    whole = sub_graphs.complete(session, owner_id, graph) if runs_others else graph
    return tuple(unknown_names((whole, *whole.sub_graphs), catalogue, masks))


def create_inline(session: Session, owner_id: UUID, document: dict[str, Any], imported: bool | None = None) -> UUID:
    """Store a graph that came with a run, and return its id; the same document twice is stored once.

    `imported`: literals that do not fit only give warnings; None: the document tells.

    Raises:
        GraphInvalid: with all problems, and their places.
        TooLarge: too many nodes.
    """
    digest = _known.find(document)
    if digest is not None and (found := stored.find_inline(session, owner_id, digest)) is not None:
        return found
    given = documents.read(document)
    digest = documents.fingerprint(given.graph)
    _known.keep(document, digest)
    if (found := stored.find_inline(session, owner_id, digest)) is not None:
        return found
    problems = documents.check(given, imported=is_export(document) if imported is None else imported)
    if not documents.is_complete(problems):
        raise GraphInvalid("blocks or pins of this graph are missing here", problems)
    placed = sub_graphs.placed(given.graph, new_id(), 1)
    graph = placed.graph
    plan = compile_plan(graph, catalogue)
    new = NewVersion(graph.to_json(), plan.to_json(), digest, graph.block_ids())
    if stored.create_inline(session, owner_id, graph.id, graph.name, new):
        _store_parts(session, owner_id, placed)
        plans.keep(graph, plan)
        return graph.id
    found = stored.find_inline(session, owner_id, digest)  # another request stored it a moment ago
    assert found is not None
    return found


def replace(
    session: Session, owner_id: UUID, graph_id: UUID, document: dict[str, Any], imported: bool | None = None
) -> Saved:
    """Store the document as the graph's next version, unless it equals the latest one. See `create`.

    Raises:
        NotFound: the owner has no such graph.
        Conflict: it is a part of another graph.
        GraphInvalid: with all problems, and their places.
        TooLarge: too many nodes.
    """
    given = documents.read(document)
    problems = documents.check(given, imported=is_export(document) if imported is None else imported)
    valid = documents.is_complete(problems)
    head = _own_head(session, owner_id, graph_id)
    problems += sub_graphs.missing(session, owner_id, given.graph, "warning", with_parts=True)
    digest = documents.fingerprint(given.graph)
    if digest == head.digest or (valid and not head.valid and _says(session, head, digest)):
        if valid and not head.valid:  # what was missing has been installed
            _complete(session, graph_id, head.latest_version, digest)
        return Saved(graph_id, head.latest_version, head.name, False, problems, valid)
    placed = sub_graphs.placed(given.graph, graph_id, head.latest_version + 1)
    graph = placed.graph
    new = _new_version(graph, digest, valid)
    stored.add_version(session, graph_id, graph.version, graph.name, graph.description, new)
    _store_parts(session, owner_id, placed)
    quota.refuse_beyond(session, owner_id)
    return Saved(graph_id, graph.version, graph.name, True, problems, valid)


def _says(session: Session, head: Head, digest: str) -> bool:
    """Whether an incomplete graph, read with the blocks installed now, has this fingerprint."""
    graph = document_of(session, head.id, head.latest_version)
    return documents.fingerprint(documents.brought_up_to_date(graph).graph) == digest


def _complete(session: Session, graph_id: UUID, version: int, digest: str) -> None:
    """Store the plans of a version and its parts that were impossible when they were stored."""
    graph = documents.brought_up_to_date(document_of(session, graph_id, version)).graph
    for one in (graph, *graph.parts()):
        own = digest if one is graph else documents.fingerprint(one)
        stored.complete(session, one.id, one.version, compile_plan(one, catalogue).to_json(), own)


def export(session: Session, owner_id: UUID, graph_id: UUID, version: int | None) -> dict[str, Any]:
    """The document of a version for others: without secrets, with new ids, and with all graphs that it runs.

    Raises:
        NotFound: the owner has no such graph, or the graph no such version.
    """
    head = _head(session, owner_id, graph_id)
    graph = document_of(session, graph_id, version or head.latest_version)
    return exchange.export(sub_graphs.complete(session, owner_id, graph), catalogue)


def get(session: Session, owner_id: UUID, graph_id: UUID, version: int | None) -> dict[str, Any]:
    """The document of a version, by default the latest, with the computed schemas.

    Its credentials include those of all graphs that it runs, also outside the document.

    Raises:
        NotFound: the owner has no such graph, or the graph no such version.
    """
    head = _head(session, owner_id, graph_id)
    graph = document_of(session, graph_id, version or head.latest_version)
    credentials = credentials_input_schema(sub_graphs.complete(session, owner_id, graph), catalogue)
    return {**describe(graph, catalogue), "credentials_input_schema": credentials}


def page(session: Session, owner_id: UUID, asked: PageRequest) -> tuple[list[Head], str | None]:
    """One page of the owner's graphs, the newest first, and the cursor of the next page."""
    found = stored.page(session, owner_id, cursors.identifier("graphs", asked.after), asked.limit + 1)
    heads, cursor = asked.cut("graphs", found, lambda head: (head.id,))
    return [head._replace(valid=head.valid and all(map(_is_here, head.blocks))) for head in heads], cursor


def _is_here(block_id: str) -> bool:
    spec = catalogue(block_id)
    return spec is not None and spec.enabled


def versions(
    session: Session, owner_id: UUID, graph_id: UUID, asked: PageRequest
) -> tuple[list[VersionLine], str | None]:
    """One page of a graph's versions, the newest first, and the cursor of the next page.

    Raises:
        NotFound: the owner has no such graph.
    """
    _head(session, owner_id, graph_id)
    of = f"versions/{graph_id}"
    key = cursors.integers(of, asked.after, 1)
    found = stored.page_of_versions(session, graph_id, key[0] if key else None, asked.limit + 1)
    return asked.cut(of, found, lambda line: (line.version,))


def delete(session: Session, owner_id: UUID, graph_id: UUID) -> None:
    """Hide a graph from now on, and delete its presets; its runs and their results stay.

    Raises:
        NotFound: the owner has no such graph.
        Conflict: runs of it are open, or it is a part of another graph.
    """
    _own_head(session, owner_id, graph_id)
    if count := stored.open_runs(session, graph_id, _COUNTED_RUNS):
        told = f"{count} or more" if count == _COUNTED_RUNS else str(count)
        raise Conflict(f"runs of this graph that have not ended: {told}; wait for them, or cancel them")
    presets.delete_of_graph(session, graph_id)
    stored.delete(session, graph_id)


def problems(session: Session, owner_id: UUID, document: dict[str, Any]) -> list[Problem]:
    """Everything that is wrong with a document, for this owner, without storing it.

    Raises:
        TooLarge: too many nodes.
    """
    try:
        given = documents.read(document)
        found = documents.problems_of(given.graph, imported=is_export(document))
        return [
            *given.warnings,
            *found,
            *sub_graphs.missing(session, owner_id, given.graph, "warning", with_parts=True),
        ]
    except GraphInvalid as invalid:
        return list(invalid.problems)


def inputs(document: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of what a run of the document's graph takes, without storing it.

    Raises:
        GraphInvalid: it has not the shape of a graph; names every place.
        TooLarge: too many nodes.
    """
    return input_schema(documents.read(document).graph, catalogue)


def _own_head(session: Session, owner_id: UUID, graph_id: UUID) -> Head:
    """The locked head of a graph that is about to change."""
    head = _head(session, owner_id, graph_id, lock=True)
    if head.part_of is not None:
        raise Conflict(f"this graph is a part of graph {head.part_of}, and changes with it")
    return head


def _head(session: Session, owner_id: UUID, graph_id: UUID, *, lock: bool = False) -> Head:
    head = stored.find(session, owner_id, graph_id, lock=lock)
    if head is None:
        raise NotFound(f"there is no graph {graph_id}")
    return head
