"""Stores presets. Every function is scoped by owner, but for `delete_of_graph`."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from agentflow import pages
from agentflow.ids import new_id
from agentflow.presets.tables import Preset


def add(session: Session, owner_id: UUID, graph_id: UUID, version: int | None, name: str, given: str) -> Preset:
    """Write a new preset; `given` is JSON text."""
    preset = Preset(id=new_id(), owner_id=owner_id, graph_id=graph_id, version=version, name=name, given=given)
    session.add(preset)
    session.flush()
    return preset


def find(session: Session, owner_id: UUID, preset_id: UUID, *, lock: bool = False) -> Preset | None:
    """One preset; `lock`: nobody else changes it until this transaction ends."""
    query = select(Preset).where(Preset.id == preset_id, Preset.owner_id == owner_id)
    return session.scalar(query.with_for_update() if lock else query)


def page(
    session: Session, owner_id: UUID, graph_id: UUID | None, after: UUID | None, limit: int
) -> tuple[list[Preset], bool]:
    """The owner's presets, the newest first, below the id `after`, and whether there are more; `graph_id`: only its."""
    query = select(Preset).where(Preset.owner_id == owner_id)
    if graph_id is not None:
        query = query.where(Preset.graph_id == graph_id)
    if after is not None:
        query = query.where(Preset.id < after)
    rows, more = pages.page(session, query.order_by(Preset.id.desc()), limit, Preset.given)
    return [preset for (preset,) in rows], more


def naming(session: Session, owner_id: UUID, id: UUID, limit: int) -> Sequence[str]:
    """The names of at most `limit` of the owner's presets that give a run something with this id, the newest first."""
    query = select(Preset.name).where(Preset.owner_id == owner_id, Preset.given.icontains(str(id)))
    return session.scalars(query.order_by(Preset.id.desc()).limit(limit)).all()


def changed(session: Session, preset: Preset) -> None:
    """Write what was changed on it."""
    preset.updated_at = func.now()
    session.flush()
    session.refresh(preset)


def remove(session: Session, preset: Preset) -> None:
    """Delete it."""
    session.delete(preset)
    session.flush()


def delete_of_graph(session: Session, graph_id: UUID) -> None:
    """Delete all presets of a graph."""
    session.execute(delete(Preset).where(Preset.graph_id == graph_id))
