"""Remembers which run an Idempotency-Key stands for.

The row is written first in the submission's transaction. Of two simultaneous submissions with one key, the second waits
here for the first one's commit and then finds its run; if the first fails, its row is rolled back.
"""

from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from agentflow.storage.tables import IdempotencyKey


class Earlier(NamedTuple):
    """What was submitted before with the key."""

    digest: str
    run_id: UUID


def reserve(session: Session, owner_id: UUID, key: str, digest: str, run_id: UUID) -> Earlier | None:
    """Claim `key` for the submission of `run_id`. None: claimed; else the submission that has it."""
    added = session.scalar(
        insert(IdempotencyKey)
        .values(owner_id=owner_id, key=key, digest=digest, run_id=run_id)
        .on_conflict_do_nothing()
        .returning(IdempotencyKey.run_id)
    )
    if added is not None:
        return None
    row = session.execute(
        select(IdempotencyKey.digest, IdempotencyKey.run_id).where(
            IdempotencyKey.owner_id == owner_id, IdempotencyKey.key == key
        )
    ).one()
    return Earlier(row.digest, row.run_id)
