"""Tells owners what their credentials need. The one place from which notifications about credentials are sent."""

import logging

from sqlalchemy.orm import Session

from agentflow.credentials.tables import StoredCredential
from agentflow.notifications import service as notifications
from agentflow.notifications.kinds import Kind
from agentflow.services.transaction import after_commit

logger = logging.getLogger(__name__)


def needs_reauthorisation(session: Session, one: StoredCredential, error: str) -> None:
    """Tell the owner that the provider refuses their credential, in the transaction that notes it.

    Args:
        session: that transaction.
        one: the credential.
        error: the provider's name for why.
    """
    told = {"credential": str(one.id), "owner": str(one.owner_id), "provider": one.provider, "reason": error}
    about = {"credential": one.id, "provider": one.provider, "title": one.title, "why": "refused", "reason": error}
    cause = f"credential-refused:{one.id}:{one.generation}"  # a new secret is another generation
    notifications.note(session, one.owner_id, Kind.CREDENTIAL_NEEDS_YOU, cause, about)
    after_commit(session, lambda: logger.warning("credential_needs_reauthorisation", extra=told))
