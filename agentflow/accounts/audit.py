"""Records who did what: an entry for each change, in the transaction of that change, and for each that was refused.

Requests that name no valid key are not recorded: anybody could fill the log with them.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.accounts import store
from agentflow.accounts.keys import Caller
from agentflow.accounts.scopes import Scope
from agentflow.accounts.store import Act
from agentflow.accounts.tables import AuditEntry
from agentflow.engine.codec import storable_text
from agentflow.errors import NotFound

COMMAND_LINE: Final = "command line"
"""The source of what is done in the database itself, without the API."""

_LONGEST: Final = 1_000
"""Characters of a reason that are kept."""


def refused(act: Act, status: int, reason: str) -> Act:
    """The same act, refused with that HTTP status."""
    return act._replace(status=status, reason=storable_text(reason[:_LONGEST]))


def record(session: Session, act: Act) -> None:
    """Add an entry."""
    store.add_audit_entry(session, act if act.target is None else act._replace(target=storable_text(act.target)))


def page(
    session: Session, caller: Caller, user_id: UUID | None, after: UUID | None, limit: int
) -> Sequence[AuditEntry]:
    """Entries, the newest first, below the id `after`: of `user_id`; None: of everybody for an admin, else one's own.

    Raises:
        NotFound: it is another user, and the caller is no admin.
    """
    if Scope.ADMIN not in caller.scopes:
        if user_id not in (None, caller.user_id):
            raise NotFound(f"there is no user {user_id}")
        user_id = caller.user_id
    return store.audit_entries(session, user_id, after, limit)
