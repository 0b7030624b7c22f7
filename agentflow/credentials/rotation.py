"""Encrypts all secrets again under the newest key, so that an older one can be taken out of the ring.

These are the credentials and the secrets of triggers; logins at providers, too, as long as somebody may return.

It works in batches, each a transaction of its own, and may be stopped and started again at any time. Others may use and
change credentials meanwhile: a row is locked while it is encrypted again, and a process that still encrypts with an
older key is told by what is left at the end.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.credentials import oauth2, oauth2_store, store
from agentflow.credentials.encryption import Bound, Sealed
from agentflow.credentials.service import bound_of, key_ring
from agentflow.credentials.tables import StoredCredential
from agentflow.errors import SystemFault
from agentflow.notifications import channels
from agentflow.notifications import store as notifications
from agentflow.triggers import store as triggers
from agentflow.triggers.tables import Trigger
from agentflow.triggers.tables import bound_of as bound_of_trigger

BATCH: Final = 100
"""Credentials in one transaction, so that none is locked for long."""


MOST_LOGINS: Final = 1_000
"""Logins at providers, and channels of notifications, in one transaction."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch.

    Attributes:
        rotated: how many were encrypted again.
        unreadable: those that no key of the ring decrypts; they stay as they are.
        last: the id behind which the next batch begins; None: there is none.
    """

    rotated: int
    unreadable: tuple[UUID, ...]
    last: UUID | None


def rotate_batch(session: Session, after: UUID | None = None, limit: int = BATCH) -> Batch:
    """Encrypt the next credentials again, above the id `after`.

    Raises:
        Conflict: there is no key.
    """
    ring = key_ring()
    if after is None:
        _rotate_logins(session)
        _rotate_channels(session)
    found = _first(
        limit,
        store.under_other_keys(session, ring.newest, after, limit),
        triggers.under_other_keys(session, ring.newest, after, limit),
    )
    unreadable: list[UUID] = []
    for one in found:
        bound = _bound(one)
        try:
            sealed = ring.encrypt(ring.decrypt(_sealed(one), bound), bound)
        except SystemFault:
            unreadable.append(one.id)
            continue
        one.secret, one.key_id = sealed.data, sealed.key_id
    session.flush()
    last = found[-1].id if len(found) == limit else None
    return Batch(len(found) - len(unreadable), tuple(unreadable), last)


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the ring decrypts a batch of stored credentials.

    Attributes:
        number: how many there are in it.
        older: how many of them need another key than the newest.
        unreadable: those that no key of the ring decrypts.
        last: the id behind which the next batch begins; None: there is none.
    """

    number: int
    older: int
    unreadable: tuple[UUID, ...]
    last: UUID | None


def examine_batch(session: Session, after: UUID | None = None, limit: int = BATCH) -> Health:
    """Try to decrypt the next credentials, above the id `after`. Changes and locks nothing."""
    found = _first(limit, store.everybodys(session, after, limit), triggers.everybodys(session, after, limit))
    ring = key_ring()
    unreadable: list[UUID] = []
    for one in found:
        try:
            ring.decrypt(_sealed(one), _bound(one))
        except SystemFault:
            unreadable.append(one.id)
    readable = [one for one in found if one.id not in unreadable]
    older = sum(one.key_id != ring.newest for one in readable)
    return Health(len(found), older, tuple(unreadable), found[-1].id if len(found) == limit else None)


def left(session: Session) -> int:
    """How many credentials, secrets of triggers and channels, and logins at providers are not under the newest key.

    Raises:
        Conflict: there is no key.
    """
    newest = key_ring().newest
    counts = (
        store.count_under_other_keys,
        triggers.count_under_other_keys,
        oauth2_store.count_logins_under_other_keys,
        notifications.count_under_other_keys,
    )
    return sum(count(session, newest) for count in counts)


_Sealed = StoredCredential | Trigger


def _first(limit: int, some: Sequence[StoredCredential], others: Sequence[Trigger]) -> list[_Sealed]:
    """The first of two lists by id, as if they were one."""
    both: list[_Sealed] = [*some, *others]
    return sorted(both, key=lambda one: one.id)[:limit]


def _bound(one: _Sealed) -> Bound:
    return bound_of(one) if isinstance(one, StoredCredential) else bound_of_trigger(one)


def _sealed(one: _Sealed) -> Sealed:
    assert one.key_id is not None and one.secret is not None, "what has no secret is not looked at"  # noqa: PT018
    return Sealed(one.key_id, one.secret)


def _rotate_logins(session: Session) -> None:
    """Logins at providers live for minutes: one batch of them is enough, and who comes late begins again."""
    ring = key_ring()
    for login in oauth2_store.logins_under_other_keys(session, ring.newest, MOST_LOGINS):
        bound = oauth2.bound_of(login)
        with suppress(SystemFault):
            sealed = ring.encrypt(ring.decrypt(Sealed(login.key_id, login.secret), bound), bound)
            login.secret, login.key_id = sealed.data, sealed.key_id


def _rotate_channels(session: Session) -> None:
    """Channels of notifications, a batch each time that this begins: what is left is told at the end."""
    ring = key_ring()
    for channel in notifications.channels_under_other_keys(session, ring.newest, MOST_LOGINS):
        bound = channels.bound_of(channel)
        with suppress(SystemFault):
            sealed = ring.encrypt(ring.decrypt(Sealed(channel.key_id, channel.secret), bound), bound)
            channel.secret, channel.key_id = sealed.data, sealed.key_id
