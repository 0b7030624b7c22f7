"""Writes and finds graphs and their versions. Every function is scoped by owner.

A graph's head (`graphs`) says which version is the latest; versions never change. A deleted graph keeps its rows,
because runs refer to them, but no function finds it.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Select, and_, bindparam, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from agentflow.storage.tables import GraphHead, GraphVersion, Run


class NewVersion(NamedTuple):
    """A version to be written: document and plan as JSON text, and its blocks' ids. No plan: a block is missing."""

    document: str
    plan: str | None
    digest: str
    blocks: list[str]

    @property
    def valid(self) -> bool:
        """Whether it can run."""
        return self.plan is not None


class Head(NamedTuple):
    """A graph's head."""

    id: UUID
    name: str
    description: str
    latest_version: int
    digest: str
    created_at: datetime
    updated_at: datetime
    valid: bool
    part_of: UUID | None
    blocks: list[str]


class VersionLine(NamedTuple):
    """One version in a list."""

    version: int
    digest: str
    created_at: datetime


_HEAD = (
    GraphHead.id,
    GraphHead.name,
    GraphHead.description,
    GraphHead.latest_version,
    GraphHead.digest,
    GraphHead.created_at,
    GraphHead.updated_at,
    GraphHead.valid,
    GraphHead.part_of,
    GraphVersion.blocks,
)


# Statements are made once: for a submission, making one would take longer than PostgreSQL takes to carry it out.
_HEADS: Final[Select[*tuple[Any, ...]]] = (
    select(*_HEAD)
    .join(GraphVersion, and_(GraphVersion.graph_id == GraphHead.id, GraphVersion.version == GraphHead.latest_version))
    .where(GraphHead.owner_id == bindparam("owner"), GraphHead.deleted_at.is_(None))
)
_FIND: Final = _HEADS.where(GraphHead.id == bindparam("graph"))


def create(
    session: Session,
    owner_id: UUID,
    graph_id: UUID,
    name: str,
    description: str,
    first: NewVersion,
    part_of: UUID | None = None,
) -> None:
    """Write a graph with its version 1. `part_of`: the graph whose sub-graph it is; then it is not listed."""
    session.add(
        GraphHead(
            id=graph_id,
            owner_id=owner_id,
            name=name,
            description=description,
            latest_version=1,
            digest=first.digest,
            valid=first.valid,
            part_of=part_of,
        )
    )
    session.flush()
    _add_version(session, graph_id, 1, first)


def create_inline(session: Session, owner_id: UUID, graph_id: UUID, name: str, first: NewVersion) -> bool:
    """Write a graph that came with a run. False, and nothing is written, if there is one with this digest."""
    added = session.scalar(
        insert(GraphHead)
        .values(
            id=graph_id,
            owner_id=owner_id,
            name=name,
            latest_version=1,
            digest=first.digest,
            valid=first.valid,
            inline=True,
        )
        .on_conflict_do_nothing(index_elements=["owner_id", "digest"], index_where=text("inline"))
        .returning(GraphHead.id)
    )
    if added is None:
        return False
    _add_version(session, graph_id, 1, first)
    return True


def find_inline(session: Session, owner_id: UUID, digest: str) -> UUID | None:
    """The graph that came with an earlier run and says the same."""
    return session.scalar(
        select(GraphHead.id).where(GraphHead.owner_id == owner_id, GraphHead.digest == digest, text("graphs.inline"))
    )


def find(session: Session, owner_id: UUID, graph_id: UUID, *, lock: bool = False) -> Head | None:
    """The graph's head. `lock`: nobody else adds a version or deletes it until this transaction ends."""
    if lock:  # a statement of its own: one that waited would see the version that was the latest when it began
        own = (GraphHead.id == graph_id, GraphHead.owner_id == owner_id)
        session.execute(select(GraphHead.id).where(*own).with_for_update())
    row = session.execute(_FIND, {"owner": owner_id, "graph": graph_id}).one_or_none()
    return Head(*row) if row else None


def add_version(session: Session, graph_id: UUID, number: int, name: str, description: str, new: NewVersion) -> None:
    """Write version `number` and make it the latest. The head is locked."""
    _add_version(session, graph_id, number, new)
    session.execute(
        update(GraphHead)
        .where(GraphHead.id == graph_id)
        .values(
            latest_version=number,
            digest=new.digest,
            valid=new.valid,
            name=name,
            description=description,
            updated_at=func.now(),
        )
    )


def _add_version(session: Session, graph_id: UUID, number: int, new: NewVersion) -> None:
    session.add(
        GraphVersion(
            graph_id=graph_id,
            version=number,
            document=new.document,
            plan=new.plan,
            digest=new.digest,
            blocks=new.blocks,
        )
    )
    session.flush()


def document_of(session: Session, graph_id: UUID, version: int) -> str | None:
    """The version's document. The caller has checked the owner."""
    return session.scalar(
        select(GraphVersion.document).where(GraphVersion.graph_id == graph_id, GraphVersion.version == version)
    )


def plan_of(session: Session, graph_id: UUID, version: int) -> str | None:
    """The version's compiled plan. The caller has checked the owner."""
    return session.scalar(
        select(GraphVersion.plan).where(GraphVersion.graph_id == graph_id, GraphVersion.version == version)
    )


def page(session: Session, owner_id: UUID, before: UUID | None, limit: int) -> Sequence[Head]:
    """Graphs that were pushed (not those that came with a run), the newest first, below the id `before`."""
    query = _HEADS.where(text("NOT graphs.inline"), GraphHead.part_of.is_(None))
    query = query.order_by(GraphHead.id.desc()).limit(limit)
    if before is not None:
        query = query.where(GraphHead.id < before)
    return [Head(*row) for row in session.execute(query, {"owner": owner_id})]


def page_of_versions(session: Session, graph_id: UUID, before: int | None, limit: int) -> Sequence[VersionLine]:
    """Versions of a graph, the newest first, below `before`."""
    query = (
        select(GraphVersion.version, GraphVersion.digest, GraphVersion.created_at)
        .where(GraphVersion.graph_id == graph_id)
        .order_by(GraphVersion.version.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(GraphVersion.version < before)
    return [VersionLine(*row) for row in session.execute(query)]


def delete(session: Session, graph_id: UUID) -> None:
    """Hide the graph, and its sub-graphs, from now on. The head is locked."""
    own = or_(GraphHead.id == graph_id, GraphHead.part_of == graph_id)
    session.execute(update(GraphHead).where(own).values(deleted_at=func.now()))


def latest_versions(session: Session, owner_id: UUID, graph_ids: Collection[UUID]) -> dict[UUID, int]:
    """The latest version of each of these graphs that the owner has. Earlier versions exist, too."""
    if not graph_ids:
        return {}
    wanted = select(GraphHead.id, GraphHead.latest_version).where(
        GraphHead.owner_id == owner_id, GraphHead.deleted_at.is_(None), GraphHead.id.in_(graph_ids)
    )
    return {row.id: row.latest_version for row in session.execute(wanted)}


def complete(session: Session, graph_id: UUID, version: int, plan: str, digest: str) -> None:
    """Write the plan of a version that had none because blocks were missing. Its document stays."""
    of_version = (GraphVersion.graph_id == graph_id, GraphVersion.version == version, GraphVersion.plan.is_(None))
    session.execute(update(GraphVersion).where(*of_version).values(plan=plan, digest=digest))
    of_head = (GraphHead.id == graph_id, GraphHead.latest_version == version)
    session.execute(update(GraphHead).where(*of_head).values(valid=True, digest=digest))


def open_runs(session: Session, graph_id: UUID, at_most: int) -> int:
    """How many runs of the graph have not ended, counted up to `at_most`."""
    some = select(Run.id).where(Run.graph_id == graph_id, Run.ended_at.is_(None)).limit(at_most)
    return session.scalar(select(func.count()).select_from(some.subquery())) or 0
