"""Keeps what moderation refused, and reads it."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from agentflow.engine.codec import dumps, storable_text
from agentflow.ids import new_id
from agentflow.moderation.tables import RefusedText


class Verdict(Protocol):
    """What a moderator says."""

    @property
    def categories(self) -> Sequence[str]: ...
    @property
    def reason(self) -> str | None: ...


class Refused(NamedTuple):
    """What was refused: a JSON value.

    Attributes:
        node_id: the output node that was to give it; empty: the run was given it.
    """

    owner_id: UUID
    run_id: UUID
    node_id: str
    verdict: Verdict
    value: Any


def keep(session: Session, refused: Refused) -> None:
    """Keep what was refused; once for each node of a run."""
    verdict = refused.verdict
    given = {
        "id": new_id(),
        "owner_id": refused.owner_id,
        "run_id": refused.run_id,
        "node_id": refused.node_id,
        "categories": [storable_text(one) for one in verdict.categories],
        "reason": None if verdict.reason is None else storable_text(verdict.reason),
        "content": dumps(refused.value),
    }
    session.execute(insert(RefusedText).values(given).on_conflict_do_nothing())


def page(session: Session, owner_id: UUID | None, below: UUID | None, limit: int) -> Sequence[RefusedText]:
    """What was refused to one user, or to all, the newest first, below the id `below`."""
    query = select(RefusedText)
    if owner_id is not None:
        query = query.where(RefusedText.owner_id == owner_id)
    if below is not None:
        query = query.where(RefusedText.id < below)
    return session.scalars(query.order_by(RefusedText.id.desc()).limit(limit)).all()
