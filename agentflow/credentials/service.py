"""Makes, lists, changes and deletes the credentials of an owner. Nobody else sees or uses them, admins included."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Session

from agentflow.credentials import store
from agentflow.credentials.encryption import Bound, KeyRing, Sealed
from agentflow.credentials.kinds import OAuth2Secret, Secret, State, renewal_due
from agentflow.credentials.tables import StoredCredential
from agentflow.errors import Conflict, NotFound, TooMany
from agentflow.ids import new_id
from agentflow.settings import settings

MOST: Final = 1_000
"""Credentials of one owner."""


@dataclass(frozen=True, slots=True)
class New:
    """A credential to be.

    Attributes:
        provider: whose it is, such as `openai`; in any case.
        title: its name, for people; None: the provider's.
        secret: what is kept of it.
        expires_at: when it stops working; None: never, or nobody knows. It may be past.
        exclusive: one node execution at a time may use it.
    """

    provider: str
    title: str | None
    secret: Secret
    expires_at: datetime | None = None
    exclusive: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be another; None: it stays.

    Attributes:
        secret: of the same kind. A new one is valid again.
        expires_at: in a tuple, because None is a value: never.
    """

    title: str | None = None
    secret: Secret | None = None
    expires_at: tuple[datetime | None] | None = None
    exclusive: bool | None = None


def key_ring() -> KeyRing:
    """The keys of this installation."""
    return KeyRing(settings().credential_key_ring())


def create(session: Session, owner_id: UUID, new: New) -> StoredCredential:
    """Store a credential.

    Raises:
        Conflict: there is no key to encrypt it with.
        TooMany: the owner has as many as allowed.
    """
    ring = key_ring()
    refuse_too_many(session, owner_id)
    provider = new.provider.lower()
    bound = Bound(new_id(), owner_id, provider, new.secret.type, new.secret.shown())
    sealed = ring.encrypt(new.secret.hidden(), bound)
    credential = StoredCredential(
        id=bound.id,
        owner_id=owner_id,
        provider=provider,
        kind=bound.kind,
        title=new.title or provider,
        details=bound.details,
        secret=sealed.data,
        key_id=sealed.key_id,
        expires_at=new.expires_at,
        exclusive=new.exclusive,
    )
    _expect_renewal(credential, new.secret)
    store.add(session, credential)
    return credential


def refuse_too_many(session: Session, owner_id: UUID) -> None:
    """See to it that the owner may have one more.

    Raises:
        TooMany: they have as many as allowed.
    """
    if store.count(session, owner_id) >= MOST:
        raise TooMany(f"you have {MOST:,} credentials, as many as allowed: delete some first")


def page(
    session: Session, owner_id: UUID, provider: str | None, after: UUID | None, limit: int
) -> Sequence[StoredCredential]:
    """The owner's credentials, the newest first, below the id `after`; `provider`: only of that one."""
    return store.page(session, owner_id, provider.lower() if provider else None, after, limit)


def get(session: Session, owner_id: UUID, credential_id: UUID, *, lock: bool = False) -> StoredCredential:
    """The owner's credential.

    Raises:
        NotFound: there is none, or it is another's.
    """
    found = store.get(session, owner_id, credential_id, lock=lock)
    if found is None:
        raise NotFound(f"there is no credential {credential_id}")
    return found


def change(session: Session, owner_id: UUID, credential_id: UUID, changes: Changes) -> StoredCredential:
    """Give a credential another title, expiry or secret. Node executions that run keep what they have.

    Raises:
        NotFound: there is none, or it is another's.
        Conflict: the new secret is of another kind, or there is no key to encrypt it with.
    """
    credential = get(session, owner_id, credential_id, lock=True)
    if changes.title is not None:
        credential.title = changes.title
    if changes.expires_at is not None:
        (credential.expires_at,) = changes.expires_at
    if changes.exclusive is not None:
        credential.exclusive = changes.exclusive
    if changes.secret is not None:
        replace_secret(credential, changes.secret)
        if changes.expires_at is not None:
            _expect_renewal(credential, changes.secret)
    credential.updated_at = func.clock_timestamp()
    session.flush()
    session.refresh(credential)
    return credential


def delete(session: Session, owner_id: UUID, credential_id: UUID) -> None:
    """Delete a credential. What names it fails from now on.

    Raises:
        NotFound: there is none, or it is another's.
    """
    session.delete(get(session, owner_id, credential_id, lock=True))
    session.flush()


def bound_of(credential: StoredCredential) -> Bound:
    """What the secret of a stored credential is bound to."""
    return Bound(credential.id, credential.owner_id, credential.provider, credential.kind, credential.details)


def sealed_of(credential: StoredCredential) -> Sealed:
    """The encrypted secret of a stored credential."""
    return Sealed(credential.key_id, credential.secret)


def replace_secret(credential: StoredCredential, secret: Secret) -> None:
    """Give a credential, which is locked, another secret of its kind. What renews the old one notices.

    Raises:
        Conflict: the secret is of another kind, or there is no key to encrypt it with.
    """
    if secret.type != credential.kind:
        raise Conflict(f"the credential is of the type {credential.kind}, which stays: {secret.type} is another")
    credential.details = secret.shown()
    reseal(credential, secret.hidden())
    credential.token_expires_at = credential.renew_at = None


def reseal(credential: StoredCredential, hidden: Mapping[str, Any]) -> None:
    """Encrypt another secret of a credential that is locked. It is valid, and nobody renews it.

    Raises:
        Conflict: there is no key to encrypt it with.
    """
    sealed = key_ring().encrypt(hidden, bound_of(credential))
    credential.secret, credential.key_id = sealed.data, sealed.key_id
    credential.generation = (credential.generation or 0) + 1
    credential.state = State.VALID
    credential.renewing = credential.renewing_until = None


def _expect_renewal(credential: StoredCredential, secret: Secret) -> None:
    """Tokens that were stored by hand are renewed, too, where the operator has an app at their provider."""
    if isinstance(secret, OAuth2Secret) and secret.refresh_token and credential.provider in settings().oauth_providers:
        credential.token_expires_at, credential.expires_at = credential.expires_at, None
        if credential.token_expires_at is not None:
            credential.renew_at = renewal_due(credential.token_expires_at, None)
