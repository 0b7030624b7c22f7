"""Stores credentials, whose secrets come here encrypted, and counts and lists them. It decides nothing."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, literal, or_, select, update
from sqlalchemy.orm import Session, defer

from agentflow.credentials.tables import StoredCredential

USE_RESOLUTION: Final = timedelta(minutes=1)
"""So that a busy credential does not write at every node execution."""


def add(session: Session, credential: StoredCredential) -> None:
    """Write a new credential."""
    session.add(credential)
    session.flush()
    session.refresh(credential)


def get(session: Session, owner_id: UUID, credential_id: UUID, *, lock: bool = False) -> StoredCredential | None:
    """The owner's credential; `lock`: nobody else changes it until this transaction ends."""
    query = select(StoredCredential).where(StoredCredential.id == credential_id, StoredCredential.owner_id == owner_id)
    return session.scalar(query.with_for_update() if lock else query)


def page(
    session: Session, owner_id: UUID, provider: str | None, after: UUID | None, limit: int
) -> Sequence[StoredCredential]:
    """The owner's credentials, the newest first, below the id `after`."""
    query = (
        select(StoredCredential).where(StoredCredential.owner_id == owner_id).options(defer(StoredCredential.secret))
    )
    if provider is not None:
        query = query.where(StoredCredential.provider == provider)
    if after is not None:
        query = query.where(StoredCredential.id < after)
    return session.scalars(query.order_by(StoredCredential.id.desc()).limit(limit)).all()


def count(session: Session, owner_id: UUID) -> int:
    """How many credentials the owner has."""
    return (
        session.scalar(select(func.count()).select_from(StoredCredential).where(StoredCredential.owner_id == owner_id))
        or 0
    )


def fitting(
    session: Session, owner_id: UUID, ids: Collection[UUID], providers: Collection[str], kinds: Collection[str]
) -> Sequence[StoredCredential]:
    """The owner's credentials with one of these ids, or of one of the providers, or of one of the kinds."""
    wanted: list[ColumnElement[bool]] = []
    if ids:
        wanted.append(StoredCredential.id.in_(list(ids)))
    if providers:
        wanted.append(StoredCredential.provider.in_(list(providers)))
    if kinds:
        wanted.append(StoredCredential.kind.in_(list(kinds)))
    query = select(StoredCredential).where(and_(StoredCredential.owner_id == owner_id, or_(*wanted)))
    return session.scalars(query.order_by(StoredCredential.id)).all() if wanted else ()


def every(session: Session, owner_id: UUID) -> Sequence[StoredCredential]:
    """All credentials of the owner, by id, without their secrets."""
    query = select(StoredCredential).where(StoredCredential.owner_id == owner_id)
    return session.scalars(query.options(defer(StoredCredential.secret)).order_by(StoredCredential.id)).all()


def note_use(session: Session, credential_id: UUID) -> None:
    """Note that it is used now, to the minute."""
    session.execute(
        update(StoredCredential)
        .where(
            StoredCredential.id == credential_id,
            or_(
                StoredCredential.last_used_at.is_(None),
                StoredCredential.last_used_at < func.now() - literal(USE_RESOLUTION),
            ),
        )
        .values(last_used_at=func.date_trunc("minute", func.now()))
        .execution_options(synchronize_session=False)
    )


def mark(session: Session, owner_id: UUID) -> str:
    """A text that changes whenever a credential of the owner is added, changed or deleted."""
    query = select(func.count(), func.max(StoredCredential.updated_at)).where(StoredCredential.owner_id == owner_id)
    number, newest = session.execute(query).one()
    return f"{number} {newest}"


def under_other_keys(session: Session, key_id: str, after: UUID | None, limit: int) -> Sequence[StoredCredential]:
    """Credentials of everybody that another key encrypted, by id, above the id `after`, locked for this transaction.

    A writer that came before is waited for, and what it wrote is what is returned.
    """
    query = select(StoredCredential).where(StoredCredential.key_id != key_id)
    if after is not None:
        query = query.where(StoredCredential.id > after)
    return session.scalars(query.order_by(StoredCredential.id).limit(limit).with_for_update()).all()


def everybodys(session: Session, after: UUID | None, limit: int) -> Sequence[StoredCredential]:
    """Credentials of everybody, by id, above the id `after`."""
    query = select(StoredCredential)
    if after is not None:
        query = query.where(StoredCredential.id > after)
    return session.scalars(query.order_by(StoredCredential.id).limit(limit)).all()


def count_under_other_keys(session: Session, key_id: str) -> int:
    """How many credentials another key encrypted."""
    query = select(func.count()).select_from(StoredCredential).where(StoredCredential.key_id != key_id)
    return session.scalar(query) or 0
