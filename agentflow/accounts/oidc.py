"""Binds sign-ins through OpenID Connect to users.

An attempt is one row, which the browser's return deletes: its state counts once, and only from the browser that has it
in a cookie. A user is found by issuer and subject, which never change; names and addresses of e-mail may.
"""

import hashlib
import hmac
import logging
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.accounts import store
from agentflow.accounts.oidc_provider import Attempt, Known
from agentflow.accounts.scopes import Role
from agentflow.accounts.tables import Identity, OidcAttempt
from agentflow.clock import now
from agentflow.errors import Conflict, Forbidden, Malformed, NotFound
from agentflow.settings import settings

logger = logging.getLogger(__name__)

ATTEMPT_SECONDS: Final = 600
"""How long somebody may take at the provider."""


def begin(session: Session, attempt: Attempt) -> None:
    """Keep an attempt until its browser returns."""
    store.forget_attempts(session, now())
    session.add(
        OidcAttempt(
            digest=_digest(attempt.state),
            nonce=attempt.nonce,
            verifier=attempt.verifier,
            page=attempt.page,
            expires_at=now() + timedelta(seconds=ATTEMPT_SECONDS),
        )
    )
    session.flush()


def take(session: Session, state: str, cookie: str) -> Attempt:
    """The attempt of a browser that returns. It can be taken once.

    Args:
        session: the transaction, to be committed before the provider is asked.
        state: what the browser brings from the provider.
        cookie: what it has from us.

    Raises:
        Malformed: the state is wrong, was used, has expired, or is another browser's.
    """
    if not cookie or not hmac.compare_digest(state.encode(), cookie.encode()):
        raise Malformed("state: this sign-in did not begin in this browser, or another has begun since: begin again")
    found = store.take_attempt(session, _digest(state))
    if found is None or found.expires_at <= now():
        raise Malformed("state: this sign-in is over, or took too long: begin again")
    return Attempt(state, found.nonce, found.verifier, found.page)


def user_of(session: Session, known: Known) -> UUID:
    """The user whom the provider knows so; made as a member, where nobody is and the settings allow it.

    Raises:
        Forbidden: nobody is, and the settings do not.
    """
    store.lock_identity(session, known.issuer, known.subject)
    identity = session.get(Identity, (known.issuer, known.subject))
    if identity is not None:
        return identity.user_id
    if not settings().oidc_create_users:
        logger.info("sign_in_refused", extra={"issuer": known.issuer, "subject": known.subject})  # what `link` needs
        raise Forbidden("no user of this installation is linked to you: ask an admin")
    user_id = store.add_user(session, known.name, Role.MEMBER)
    session.add(Identity(issuer=known.issuer, subject=known.subject, user_id=user_id))
    session.flush()
    return user_id


def link(session: Session, user_id: UUID, issuer: str, subject: str | None) -> None:
    """Let a user sign in as `subject` of the provider, and as nobody else of it; None: as nobody. Their sessions end.

    Raises:
        NotFound: there is no such user.
        Conflict: another user signs in so, or the user is being deleted.
    """
    if subject is not None:
        store.lock_identity(
            session, issuer, subject
        )  # before the user, as a sign-in does: else each waits for the other
    user = store.user(session, user_id, lock=True)
    if user is None:
        raise NotFound(f"there is no user {user_id}")
    if user.deleting_at is not None:
        raise Conflict(f"the user {user_id} is being deleted")
    store.forget_identities(session, user_id, issuer)
    store.end_sessions(session, user_id)
    if subject is not None:
        if session.get(Identity, (issuer, subject)) is not None:
            raise Conflict("another user signs in as that subject")
        session.add(Identity(issuer=issuer, subject=subject, user_id=user_id))
    session.flush()


def _digest(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()
