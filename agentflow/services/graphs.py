"""How are graphs stored, read and deleted?

A graph gets a new id when it is created; its nodes keep the ids that the client gave them, which must be unique
within the graph, so that the client can name nodes in masks and find them again in events. A version never changes:
storing another document makes the next one, storing the same document makes none. A graph is deleted only when none
of its runs is open, and then hidden, because the runs that it had refer to it.
"""

from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.blocks.registry import catalogue
from agentflow.errors import Conflict, GraphInvalid, NotFound, Problem
from agentflow.graph import exchange
from agentflow.graph.exchange import is_export, parts, referred_graphs, with_references
from agentflow.graph.model import Graph
from agentflow.graph.plan import Plan, compile_plan
from agentflow.graph.schemas import describe
from agentflow.graph.validation import validate
from agentflow.ids import new_id
from agentflow.services import cursors, documents, plans
from agentflow.services.plans import document_of
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
        imported: it comes from elsewhere; None: as the document looks. Then it is stored even if blocks are missing
            (`valid` is false, and it cannot run), and literals that do not fit are only warned about.

    Raises:
        GraphInvalid: with all problems, and their places.
        TooLarge: too many nodes.
    """
    given = documents.read(document)
    problems = documents.check(given, imported=is_export(document) if imported is None else imported)
    problems += _missing(session, owner_id, given, "warning")
    placed = _placed(given, new_id(), 1)
    new = new_version(placed.graph, documents.fingerprint(given))
    stored.create(session, owner_id, placed.graph.id, placed.graph.name, placed.graph.description, new)
    _store_parts(session, owner_id, placed)
    return Saved(placed.graph.id, 1, placed.graph.name, True, problems, new.valid)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A graph and its sub-graphs under the ids by which they are stored."""

    graph: Graph
    parts: tuple[Graph, ...]


def _placed(given: Graph, graph_id: UUID, version: int) -> _Placed:
    """`given` as a version of `graph_id`, its sub-graphs as graphs of their own, and all references to them so."""
    inner = list({part.id: part for part in parts(given)}.values())
    known = {part.id: (new_id(), 1) for part in inner} | {given.id: (graph_id, version)}
    own = tuple(
        documents.named(with_references(part.model_copy(update={"sub_graphs": []}), known), *known[part.id])
        for part in inner
    )
    root = with_references(given.model_copy(update={"sub_graphs": list(own)}), known)
    return _Placed(documents.named(root, graph_id, version), own)


def _store_parts(session: Session, owner_id: UUID, placed: _Placed) -> None:
    for part in placed.parts:
        new = new_version(part, documents.fingerprint(part))
        stored.create(session, owner_id, part.id, part.name, part.description, new, placed.graph.id)


def missing_graphs(session: Session, owner_id: UUID, graph: Graph) -> tuple[Problem, ...]:
    """An error for each sub-graph node whose graph the owner does not have (any more)."""
    return _missing(session, owner_id, graph, "error")


def _missing(
    session: Session, owner_id: UUID, graph: Graph, severity: Literal["error", "warning"]
) -> tuple[Problem, ...]:
    referred = referred_graphs(graph)
    within = {graph.id, *(part.id for part in parts(graph))}
    there = stored.those_there(session, owner_id, set(referred.values()) - within) | within
    return tuple(
        Problem(f"there is no graph {wanted} for this node to run", node, "graph_id", severity)
        for node, wanted in referred.items()
        if wanted not in there
    )


def create_inline(session: Session, owner_id: UUID, document: dict[str, Any]) -> UUID:
    """Store a graph that came with a run, and return its id; the same document twice is stored once.

    Raises:
        GraphInvalid: with all problems, and their places.
        TooLarge: too many nodes.
    """
    digest = _known.find(document)
    if digest is not None and (found := stored.find_inline(session, owner_id, digest)) is not None:
        return found
    given = documents.read(document)
    digest = documents.fingerprint(given)
    _known.keep(document, digest)
    if (found := stored.find_inline(session, owner_id, digest)) is not None:
        return found
    documents.check(given)
    placed = _placed(given, new_id(), 1)
    graph = placed.graph
    plan = compile_plan(graph, catalogue)
    if stored.create_inline(session, owner_id, graph.id, graph.name, _new_version(graph, plan, digest)):
        _store_parts(session, owner_id, placed)
        plans.keep(graph, plan)
        return graph.id
    found = stored.find_inline(session, owner_id, digest)  # another request stored it a moment ago
    assert found is not None
    return found


def replace(
    session: Session, owner_id: UUID, graph_id: UUID, document: dict[str, Any], imported: bool | None = None
) -> Saved:
    """Store the document as the graph's next version, unless it says what the latest one says. See `create`.

    Raises:
        NotFound: the owner has no such graph.
        GraphInvalid: with all problems, and their places.
        TooLarge: too many nodes.
    """
    given = documents.read(document)
    problems = documents.check(given, imported=is_export(document) if imported is None else imported)
    problems += _missing(session, owner_id, given.model_copy(update={"id": graph_id}), "warning")
    head = _head(session, owner_id, graph_id, lock=True)
    digest = documents.fingerprint(given)
    if digest == head.digest:
        return Saved(graph_id, head.latest_version, head.name, False, problems, head.valid)
    placed = _placed(given, graph_id, head.latest_version + 1)
    graph = placed.graph
    new = new_version(graph, digest)
    stored.add_version(session, graph_id, graph.version, graph.name, graph.description, new)
    _store_parts(session, owner_id, placed)
    return Saved(graph_id, graph.version, graph.name, True, problems, new.valid)


def new_version(graph: Graph, digest: str) -> NewVersion:
    """What is stored of a graph that was checked; without a plan where blocks of it, or of its parts, are missing."""
    complete = documents.is_complete(validate(graph, catalogue, imported=True))
    return _new_version(graph, compile_plan(graph, catalogue) if complete else None, digest)


def _new_version(graph: Graph, plan: Plan | None, digest: str) -> NewVersion:
    return NewVersion(graph.to_json(), plan.to_json() if plan else None, digest)


def export(session: Session, owner_id: UUID, graph_id: UUID, version: int | None) -> dict[str, Any]:
    """The document of a version for others: without secrets, and with new ids.

    Raises:
        NotFound: the owner has no such graph, or the graph no such version.
    """
    head = _head(session, owner_id, graph_id)
    return exchange.export(document_of(session, graph_id, version or head.latest_version), catalogue)


def get(session: Session, owner_id: UUID, graph_id: UUID, version: int | None) -> dict[str, Any]:
    """The document of a version, by default the latest, with the computed schemas.

    Raises:
        NotFound: the owner has no such graph, or the graph no such version.
    """
    head = _head(session, owner_id, graph_id)
    return describe(document_of(session, graph_id, version or head.latest_version), catalogue)


def page(session: Session, owner_id: UUID, after: str | None, limit: int) -> tuple[list[Head], str | None]:
    """One page of the owner's graphs, the newest first, and the cursor of the next page."""
    found = stored.page(session, owner_id, cursors.identifier(after), limit + 1)
    return list(found[:limit]), cursors.cursor(found[limit - 1].id) if len(found) > limit else None


def versions(
    session: Session, owner_id: UUID, graph_id: UUID, after: str | None, limit: int
) -> tuple[list[VersionLine], str | None]:
    """One page of a graph's versions, the newest first, and the cursor of the next page.

    Raises:
        NotFound: the owner has no such graph.
    """
    _head(session, owner_id, graph_id)
    key = cursors.integers(after, 1)
    found = stored.page_of_versions(session, graph_id, key[0] if key else None, limit + 1)
    return list(found[:limit]), cursors.cursor(found[limit - 1].version) if len(found) > limit else None


def delete(session: Session, owner_id: UUID, graph_id: UUID) -> None:
    """Hide a graph from now on; its runs and their results stay.

    Raises:
        NotFound: the owner has no such graph.
        Conflict: runs of it are open.
    """
    _head(session, owner_id, graph_id, lock=True)
    if count := stored.open_runs(session, graph_id, _COUNTED_RUNS):
        told = f"{count} or more" if count == _COUNTED_RUNS else str(count)
        raise Conflict(f"runs of this graph that have not ended: {told}; wait for them, or cancel them")
    stored.delete(session, graph_id)


def problems(document: dict[str, Any]) -> list[Problem]:
    """Everything that is wrong with a document, without storing it.

    Raises:
        TooLarge: too many nodes.
    """
    try:
        return list(validate(documents.read(document), catalogue, imported=is_export(document)))
    except GraphInvalid as invalid:
        return list(invalid.problems)


def _head(session: Session, owner_id: UUID, graph_id: UUID, *, lock: bool = False) -> Head:
    head = stored.find(session, owner_id, graph_id, lock=lock)
    if head is None:
        raise NotFound(f"there is no graph {graph_id}")
    return head
