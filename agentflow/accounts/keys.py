"""Identifies callers by API keys, which are shown once and stored as a digest.

A key is `af_` and 43 characters (256 random bits), so a plain SHA-256 protects it: there is nothing to guess.
"""

import hashlib
import secrets
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.accounts import store
from agentflow.errors import Unauthenticated

PREFIX = "af_"
LENGTH = len(PREFIX) + 43
_SHOWN = len(PREFIX) + 5  # characters by which a person recognises a key


def digest(key: str) -> str:
    """What is stored of a key: SHA-256 in hex."""
    return hashlib.sha256(key.encode()).hexdigest()


def create(session: Session, owner_id: UUID, name: str) -> str:
    """Make a key of the user `owner_id`. Returns the key itself, which nobody can see again."""
    key = PREFIX + secrets.token_urlsafe(32)
    store.add_key(session, owner_id, name, key[:_SHOWN], digest(key))
    return key


def ensure_first_key(session: Session) -> str | None:
    """Make the user "owner" and a key, where there is no key at all. Returns the key, or None where there was one."""
    store.lock_keys(session)
    if store.any_key(session):
        return None
    return create(session, store.add_user(session, "owner"), "first key")


def verify(session: Session, key: str) -> UUID:
    """Whose key it is.

    Raises:
        Unauthenticated: it is nobody's, or was revoked.
    """
    owner = store.owner_of_key(session, digest(key)) if len(key) == LENGTH and key.startswith(PREFIX) else None
    if owner is None:
        raise Unauthenticated("this API key is not known here, or was revoked")
    return owner
