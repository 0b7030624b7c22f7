"""Has providers revoke the tokens of credentials that are deleted: once each, behind the deletion, as well as it goes.

Only tokens that this installation got are revoked, and only where their owner has no other credential of that provider:
some providers end the user's whole consent with one token.
"""

import logging
from collections.abc import Callable
from threading import BoundedSemaphore, Thread
from typing import Final

from sqlalchemy.orm import Session

from agentflow.credentials import oauth2, oauth2_store, oauth2_tokens, service
from agentflow.credentials.kinds import Kind
from agentflow.credentials.tables import StoredCredential
from agentflow.errors import AgentFlowError
from agentflow.services.transaction import after_commit

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 8
"""Revocations under way in one process. Beyond that they are left out: a slow provider must not fill the process."""

_places = BoundedSemaphore(_AT_ONCE)


def revoke_after(session: Session, one: StoredCredential) -> None:
    """Revoke the credential's tokens once this transaction, which deletes it, is committed."""
    if one.kind == Kind.OAUTH2 and oauth2.grant_of(one) is oauth2.Grant.CODE:
        act = _revocation(session, one)
        if act is not None:
            after_commit(session, lambda: _begin(act))


def _revocation(session: Session, one: StoredCredential) -> Callable[[], None] | None:
    fields = {"credential": str(one.id), "provider": one.provider}
    try:
        provider = oauth2_tokens.provider_named(one.provider)
        if not provider.revoke_url or oauth2_store.has_another(session, one):
            return None
        hidden = service.key_ring().decrypt(service.sealed_of(one), service.bound_of(one))
    except AgentFlowError:  # it can be deleted all the same
        logger.warning("credential_not_revoked", extra=fields)
        return None

    def act() -> None:
        if not oauth2_tokens.revoke(provider, hidden["access_token"], hidden.get("refresh_token")):
            logger.warning("credential_not_revoked", extra=fields)

    return act


def _begin(act: Callable[[], None]) -> None:
    if not _places.acquire(blocking=False):
        logger.warning("revocation_left_out")
        return

    def run() -> None:
        try:
            act()
        except Exception:
            logger.exception("revocation_failed")
        finally:
            _places.release()

    Thread(target=run, name="revocation", daemon=True).start()
