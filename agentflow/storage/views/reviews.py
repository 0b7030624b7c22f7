"""Reads the reviews of an owner: what people are to look at."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from agentflow import pages
from agentflow.storage.tables import Review, Run

AnyRow = Row[*tuple[Any, ...]]

_COLUMNS = (
    Review.id,
    Review.run_id,
    Review.node,
    Review.idx,
    Review.name,
    Review.data,
    Review.editable,
    Review.status,
    Review.decided,
    Review.message,
    Review.created_at,
    Review.decided_at,
    Run.graph_id,
    Run.graph_version,
)


def find(session: Session, owner_id: UUID, review_id: UUID) -> AnyRow | None:
    """One review, if it is the owner's."""
    return session.execute(
        select(*_COLUMNS).join(Run, Run.id == Review.run_id).where(Review.id == review_id, Review.owner_id == owner_id)
    ).one_or_none()


def page(
    session: Session, owner_id: UUID, *, status: str | None, run_id: UUID | None, before: UUID | None, limit: int
) -> tuple[Sequence[AnyRow], bool]:
    """Reviews, the newest first, below the id `before`, and whether there are more."""
    query = select(*_COLUMNS).join(Run, Run.id == Review.run_id).where(Review.owner_id == owner_id)
    if status is not None:
        query = query.where(Review.status == status)
    if run_id is not None:
        query = query.where(Review.run_id == run_id)
    if before is not None:
        query = query.where(Review.id < before)
    return pages.page(session, query.order_by(Review.id.desc()), limit, Review.data, Review.decided)
