"""Says what names a credential and would fail without it, so that none is deleted unawares."""

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.errors import Conflict
from agentflow.presets import store as presets
from agentflow.schedules import store as schedules
from agentflow.triggers import store as triggers

_MOST_NAMED: Final = 3
"""Of a sort, in a message."""

_MOST_SHOWN: Final = 40
"""Characters of a name, in a message."""

_SORTS: Final[dict[str, Callable[[Session, UUID, UUID, int], Sequence[str]]]] = {
    "preset": presets.naming,
    "schedule": schedules.naming,
    "trigger": triggers.naming,
}
"""What may name a credential → the names of the owner's that do, at most so many."""


def refuse_if_used(session: Session, owner_id: UUID, credential_id: UUID) -> None:
    """Raise if something of the owner's names the credential.

    Raises:
        Conflict: something does. The message says what.
    """
    uses: list[str] = []
    for sort, naming in _SORTS.items():
        found = naming(session, owner_id, credential_id, _MOST_NAMED + 1)
        uses += [f"the {sort} {name[:_MOST_SHOWN]!r}" for name in found[:_MOST_NAMED]]
        uses += [f"more {sort}s"] if len(found) > _MOST_NAMED else []
    if uses:
        raise Conflict(f"the credential is used by {', '.join(uses)}: with `force` it is deleted all the same")
