"""Makes, lists and withdraws API keys, and identifies callers by them.

A key is `af_`, 8 characters by which a person recognises it, `_`, and 43 more: 256 random bits. So a plain SHA-256
protects it, as there is nothing to guess. It is shown once and stored as that digest.
"""

import hashlib
import secrets
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.accounts import store
from agentflow.accounts.scopes import OF_ROLE, Role, Scope, effective
from agentflow.accounts.store import NewKey
from agentflow.accounts.tables import ApiKey
from agentflow.clock import now
from agentflow.errors import Conflict, Forbidden, Malformed, NotFound, Unauthenticated

PREFIX: Final = "af_"
_SHOWN: Final = len(PREFIX) + 8
LENGTHS: Final = frozenset({_SHOWN + 44, len(PREFIX) + 43})
"""Characters of a key; the second: of keys that were made before they had a part to be recognised by."""

_LETTERS: Final = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request.

    Attributes:
        key_id: the key; None: it is a session.
        scopes: what the key may be used for, within what its user's role allows; of a session all that the role does.
        expires_at: when the key or session stops working; None: never.
        session_id: the session; None: it is a key.
        is_bounded: it has scopes of its own, which do not follow the role.
    """

    user_id: UUID
    key_id: UUID | None
    role: Role
    scopes: frozenset[Scope]
    expires_at: datetime | None = None
    session_id: UUID | None = None
    is_bounded: bool = False

    def require(self, scope: Scope) -> None:
        """Raise unless the caller has `scope`.

        Raises:
            Forbidden: it has not.
        """
        if scope not in self.scopes:
            if self.key_id is None:
                raise Forbidden(f"the role {self.role} has not the scope {scope}")
            raise Forbidden(f"this API key lacks the scope {scope}, or the role {self.role} has it not")


def digest(key: str) -> str:
    """What is stored of a key: SHA-256 in hex."""
    return hashlib.sha256(key.encode()).hexdigest()


def create(
    session: Session,
    owner_id: UUID,
    name: str,
    scopes: Sequence[Scope] | None = None,
    expires_at: datetime | None = None,
) -> tuple[str, ApiKey]:
    """Make a key of the user `owner_id`. Returns the key itself, which nobody can see again, and what is stored.

    Args:
        session: the transaction.
        owner_id: whose key it is.
        name: what it is for.
        scopes: what it may be used for; None: all that its user's role has, then as well.
        expires_at: when it stops working; None: never.
    """
    key = f"{PREFIX}{''.join(secrets.choice(_LETTERS) for _ in range(8))}_{secrets.token_urlsafe(32)}"
    kept = None if scopes is None else sorted(set(scopes))
    return key, store.add_key(session, NewKey(owner_id, name, key[:_SHOWN], digest(key), kept, expires_at))


def ensure_first_key(session: Session) -> str | None:
    """Make the admin "owner" and a key, where there is no key at all. Returns the key, or None where there was one."""
    store.lock_keys(session)
    if store.any_key(session):
        return None
    return create(session, store.add_user(session, "owner", Role.ADMIN), "first key")[0]


def verify(session: Session, key: str) -> Caller:
    """Whose key it is, and what it may be used for.

    Raises:
        Unauthenticated: it is nobody's, was revoked or has expired; or it or its user is suspended.
    """
    found = store.used_key(session, digest(key)) if len(key) in LENGTHS and key.startswith(PREFIX) else None
    if found is None or found.revoked_at is not None:
        raise Unauthenticated("this API key is not known here, or was revoked")
    if found.expires_at is not None and found.expires_at <= now():
        raise Unauthenticated("this API key has expired")
    if found.suspended_at is not None:
        raise Unauthenticated("this API key is suspended")
    if found.user_suspended_at is not None:
        raise Unauthenticated("the user of this API key is suspended")
    role = Role(found.role)
    scopes = effective(role, found.scopes)
    return Caller(found.owner_id, found.id, role, scopes, found.expires_at, is_bounded=found.scopes is not None)


def make(
    session: Session,
    caller: Caller,
    owner_id: UUID,
    name: str,
    scopes: Sequence[Scope] | None,
    expires_at: datetime | None,
) -> tuple[str, ApiKey]:
    """`create`, for a caller: a key for themselves, or for anybody where they are an admin.

    Nobody but an admin can hand on more than they have: a key that lacks scopes cannot make one that has them, and one
    that expires none that outlives it; what it makes expires with it at the latest. A session may make lasting keys.

    Raises:
        NotFound: there is no such user, or it is another one and the caller is no admin.
        Forbidden: the caller lacks one of `scopes`, or `expires_at` is later than the caller's key expires.
        Malformed: the user's role has not all of `scopes`, or `expires_at` is past.
        Conflict: the user is being deleted.
    """
    owner = store.user(session, owner_id) if owner_id == caller.user_id or Scope.ADMIN in caller.scopes else None
    if owner is None:
        raise NotFound(f"there is no user {owner_id}")
    if owner.deleting_at is not None:
        raise Conflict(f"the user {owner_id} is being deleted")
    if expires_at is not None and expires_at <= now():
        raise Malformed(f"expires_at: {expires_at.isoformat()} is past")
    if caller.key_id is not None and caller.expires_at is not None and Scope.ADMIN not in caller.scopes:
        expires_at = expires_at or caller.expires_at
        if expires_at > caller.expires_at:
            raise Forbidden(f"expires_at: this API key itself expires at {caller.expires_at.isoformat()}")
    allowed = OF_ROLE[Role(owner.role)]
    if scopes is None:
        # Left open, they would follow a later promotion, which the scopes of the caller's key do not.
        if Scope.ADMIN not in caller.scopes and (caller.is_bounded or caller.scopes != OF_ROLE[caller.role]):
            scopes = sorted(caller.scopes)
    else:
        for scope in scopes:
            if scope not in allowed:
                raise Malformed(f"scopes: {scope} is not for the role {owner.role}")
            if Scope.ADMIN not in caller.scopes:
                caller.require(scope)
    return create(session, owner_id, name, scopes, expires_at)


def page(session: Session, caller: Caller, owner_id: UUID | None, after: UUID | None, limit: int) -> Sequence[ApiKey]:
    """A user's keys, the newest first: the caller's, or those of `owner_id` where the caller is an admin.

    Raises:
        NotFound: there is no such user, or it is another one and the caller is no admin.
    """
    of = owner_id or caller.user_id
    if of != caller.user_id and (Scope.ADMIN not in caller.scopes or store.user(session, of) is None):
        raise NotFound(f"there is no user {of}")
    return store.keys(session, of, after, limit)


def change(session: Session, caller: Caller, key_id: UUID, act: Callable[[ApiKey], None]) -> ApiKey:
    """Change a key of the caller, or of anybody where they are an admin.

    Whoever may make keys may end and suspend all of theirs. Only a key that could have made another may resume it.

    Raises:
        NotFound: there is no such key, or it is another's and the caller is no admin.
        Conflict: it was revoked.
        Forbidden: it is to be resumed, and may do more than the caller, or lasts longer.
    """
    key = store.key(session, key_id, lock=True)
    if key is None or (key.owner_id != caller.user_id and Scope.ADMIN not in caller.scopes):
        raise NotFound(f"there is no API key {key_id}")
    if key.revoked_at is not None:
        raise Conflict(f"the API key {key_id} was revoked, which cannot be undone")
    if act is resume and Scope.ADMIN not in caller.scopes:
        _refuse_to_widen(caller, key)
    act(key)
    session.flush()
    return key


def _refuse_to_widen(caller: Caller, key: ApiKey) -> None:
    for scope in sorted(effective(caller.role, key.scopes)):
        caller.require(scope)
    ends = caller.expires_at if caller.key_id is not None else None
    if ends is not None and (key.expires_at is None or key.expires_at > ends):
        raise Forbidden(f"the API key {key.id} lasts longer than this one")


def revoke(key: ApiKey) -> None:
    """For `change`: the key stops working, for ever."""
    key.revoked_at = now()


def suspend(key: ApiKey) -> None:
    """For `change`: the key stops working until it is resumed."""
    key.suspended_at = key.suspended_at or now()


def resume(key: ApiKey) -> None:
    """For `change`: the key works again."""
    key.suspended_at = None
