"""How are graphs stored, read and deleted?

A graph gets a new id when it is created; its nodes keep the ids that the client gave them, which must be unique
within the graph, so that the client can name nodes in masks and find them again in events. A version never changes:
storing another document makes the next one, storing the same document makes none. A graph is deleted only when none
of its runs is open, and then hidden, because the runs that it had refer to it.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.blocks.registry import catalogue
from agentflow.errors import Conflict, GraphInvalid, NotFound, Problem
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


def create(session: Session, owner_id: UUID, document: dict[str, Any]) -> Saved:
    """Store a new graph.

    Raises:
        GraphInvalid: with all problems, and their places.
        TooLarge: too many nodes.
    """
    given = documents.read(document)
    warnings = documents.check(given)
    graph = documents.named(given, new_id(), 1)
    stored.create(session, owner_id, graph.id, graph.name, graph.description, new_version(graph))
    return Saved(graph.id, 1, graph.name, True, warnings)


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
    graph = documents.named(given, new_id(), 1)
    plan = compile_plan(graph, catalogue)
    if stored.create_inline(session, owner_id, graph.id, graph.name, _new_version(graph, plan, digest)):
        plans.keep(graph, plan)
        return graph.id
    found = stored.find_inline(session, owner_id, digest)  # another request stored it a moment ago
    assert found is not None
    return found


def replace(session: Session, owner_id: UUID, graph_id: UUID, document: dict[str, Any]) -> Saved:
    """Store the document as the graph's next version, unless it says what the latest one says.

    Raises:
        NotFound: the owner has no such graph.
        GraphInvalid: with all problems, and their places.
        TooLarge: too many nodes.
    """
    given = documents.read(document)
    warnings = documents.check(given)
    head = _head(session, owner_id, graph_id, lock=True)
    if documents.fingerprint(given) == head.digest:
        return Saved(graph_id, head.latest_version, head.name, False, warnings)
    graph = documents.named(given, graph_id, head.latest_version + 1)
    stored.add_version(session, graph_id, graph.version, graph.name, graph.description, new_version(graph))
    return Saved(graph_id, graph.version, graph.name, True, warnings)


def new_version(graph: Graph) -> NewVersion:
    """What is stored of a valid graph."""
    return _new_version(graph, compile_plan(graph, catalogue), documents.fingerprint(graph))


def _new_version(graph: Graph, plan: Plan, digest: str) -> NewVersion:
    return NewVersion(graph.to_json(), plan.to_json(), digest)


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
        return list(validate(documents.read(document), catalogue))
    except GraphInvalid as invalid:
        return list(invalid.problems)


def _head(session: Session, owner_id: UUID, graph_id: UUID, *, lock: bool = False) -> Head:
    head = stored.find(session, owner_id, graph_id, lock=lock)
    if head is None:
        raise NotFound(f"there is no graph {graph_id}")
    return head
