"""Limits what a user stores: graphs that are not deleted, in all versions, presets, schedules, triggers, and what
their blocks remember.

Counted as the database keeps it (compressed), under a lock of the owner's, so that two requests cannot both take the
last place. What blocks remember is counted now and then, as a sum over all of it for each value would be dear: it may
overshoot by a thousandth of the limit a process.
"""

from collections import Counter
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow import forking
from agentflow.accounts import store
from agentflow.errors import TooLarge
from agentflow.settings import settings

_COUNTED_EVERY: Final = 1_000

_OWNERS_KEPT: Final = 10_000

_lock = forking.lock()
_added: Counter[UUID] = Counter()  # bytes remembered here since an owner's were counted


def refuse_beyond(session: Session, owner_id: UUID, more: int = 0) -> None:
    """See to it that the owner may store `more` bytes beside what the transaction has stored already.

    Raises:
        TooLarge: then they would store more than they may.
    """
    limit = settings().max_stored_bytes
    stored = store.stored_bytes(session, owner_id)
    if stored + more > limit:
        raise TooLarge(
            f"this would be more than the {limit} bytes that one user may store ({stored} are stored): "
            "delete graphs, or let blocks forget"
        )


def refuse_to_remember(session: Session, owner_id: UUID, more: int) -> None:
    """`refuse_beyond` for what a block remembers: `more` bytes.

    Raises:
        TooLarge: then the owner would store more than they may.
    """
    with _lock:
        known = owner_id in _added
        _added[owner_id] += more
        if known and _added[owner_id] < settings().max_stored_bytes / _COUNTED_EVERY:
            return
        del _added[owner_id]
    refuse_beyond(session, owner_id, more)
    with _lock:
        _added[owner_id] = 0
        while len(_added) > _OWNERS_KEPT:
            del _added[next(iter(_added))]
