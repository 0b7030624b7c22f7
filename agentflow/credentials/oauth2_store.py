"""Stores who is on their way to a provider, and who renews which credential. It decides nothing."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import delete, func, literal, or_, select, update
from sqlalchemy.orm import Session

from agentflow.credentials.kinds import Kind, State
from agentflow.credentials.tables import OAuth2Login, StoredCredential

_FORGOTTEN_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class Standing:
    """A credential as it is now.

    Attributes:
        credential: itself.
        at: the database's time.
        claimed: whether this call may renew it.
    """

    credential: StoredCredential
    at: datetime
    claimed: bool


def add_login(session: Session, login: OAuth2Login, most: int) -> None:
    """Keep a login until its user returns. The oldest of theirs beyond `most` go, and some that took too long."""
    past = select(OAuth2Login.digest).where(OAuth2Login.expires_at <= func.now()).limit(_FORGOTTEN_AT_ONCE)
    session.execute(delete(OAuth2Login).where(OAuth2Login.digest.in_(past.with_for_update(skip_locked=True))))
    own = select(OAuth2Login.digest).where(OAuth2Login.owner_id == login.owner_id)
    beyond = own.order_by(OAuth2Login.expires_at.desc(), OAuth2Login.id.desc()).offset(most - 1)
    session.execute(delete(OAuth2Login).where(OAuth2Login.digest.in_(beyond)))
    session.add(login)
    session.flush()


def take_login(session: Session, owner_id: UUID, digest: str) -> OAuth2Login | None:
    """Delete a login of the owner's, and give what it was; None: there is none, or it was taken."""
    wanted = delete(OAuth2Login).where(OAuth2Login.digest == digest, OAuth2Login.owner_id == owner_id)
    found = session.scalars(wanted.returning(OAuth2Login).execution_options(synchronize_session=False)).one_or_none()
    if found is not None:
        session.expunge(found)
    return found


def logins_under_other_keys(session: Session, key_id: str, limit: int) -> list[OAuth2Login]:
    """Logins of everybody whose secret another key encrypted, locked for this transaction."""
    query = select(OAuth2Login).where(OAuth2Login.key_id != key_id, OAuth2Login.expires_at > func.now())
    return list(session.scalars(query.order_by(OAuth2Login.digest).limit(limit).with_for_update()).all())


def count_logins_under_other_keys(session: Session, key_id: str) -> int:
    """How many logins, of which somebody may still return, another key encrypted."""
    query = select(func.count()).select_from(OAuth2Login)
    return session.scalar(query.where(OAuth2Login.key_id != key_id, OAuth2Login.expires_at > func.now())) or 0


def claim_renewal(
    session: Session, owner_id: UUID, credential_id: UUID, token: UUID, seconds: float, left: UUID | None
) -> Standing | None:
    """Begin to renew a credential, if it is due and nobody else does; None: it is gone.

    Args:
        session: the transaction.
        owner_id: its owner.
        credential_id: itself.
        token: who begins.
        seconds: for which nobody else does.
        left: who began and did not end in time, and is succeeded; None: nobody is.
    """
    at = func.clock_timestamp()
    claim = (
        update(StoredCredential)
        .where(
            StoredCredential.id == credential_id,
            StoredCredential.owner_id == owner_id,
            StoredCredential.kind == Kind.OAUTH2,
            StoredCredential.state == State.VALID,
            StoredCredential.renew_at <= at,
            or_(StoredCredential.renewing.is_(None), StoredCredential.renewing == left),
            or_(StoredCredential.renewing_until.is_(None), StoredCredential.renewing_until <= at),
        )
        .values(renewing=token, renewing_until=at + func.make_interval(0, 0, 0, 0, 0, 0, literal(seconds)))
        .returning(StoredCredential.id)
        .execution_options(synchronize_session=False)
    )
    claimed = session.scalar(claim) is not None
    query = select(StoredCredential, at).where(
        StoredCredential.id == credential_id, StoredCredential.owner_id == owner_id
    )
    found = session.execute(query).one_or_none()
    return None if found is None else Standing(found[0], found[1], claimed)


def end_renewal(session: Session, credential_id: UUID, token: UUID, pause: float) -> None:
    """Let others renew a credential, after `pause` seconds."""
    later = func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, literal(pause))
    session.execute(
        update(StoredCredential)
        .where(StoredCredential.id == credential_id, StoredCredential.renewing == token)
        .values(renewing=None, renewing_until=later)
        .execution_options(synchronize_session=False)
    )


def has_another(session: Session, one: StoredCredential) -> bool:
    """Whether the owner has another credential of OAuth2 for the same provider."""
    query = select(StoredCredential.id).where(
        StoredCredential.owner_id == one.owner_id,
        StoredCredential.provider == one.provider,
        StoredCredential.kind == Kind.OAUTH2,
        StoredCredential.id != one.id,
    )
    return session.scalar(query.limit(1)) is not None
