"""Keeps what the blocks of a user remember: JSON values by key, and outputs that are good for a while."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.accounts import quota
from agentflow.engine.codec import dumps, loads, storable_text
from agentflow.errors import BadInput, TooLarge
from agentflow.memories import store
from agentflow.settings import settings

_LONGEST_KEY: Final = 1_000
"""Characters of a key: it is part of an index."""


def get(session: Session, owner_id: UUID, key: str) -> Any:
    """What was kept under `key`; None where there is nothing."""
    text = store.get(session, owner_id, _checked(key))
    return None if text is None else loads(text)


def put(session: Session, owner_id: UUID, key: str, value: Any) -> None:
    """Keep `value`; None takes it away.

    Raises:
        BadInput: the key or the value is too large, or the owner stores as much as they may.
        BlockBug: the value is not JSON.
    """
    if value is None:
        store.remove(session, owner_id, _checked(key))
        return
    text = dumps(value)
    if len(text.encode()) > settings().max_value_bytes:
        raise BadInput(f"what is to be kept under {key!r} is larger than {settings().max_value_bytes} bytes")
    try:
        quota.refuse_to_remember(session, owner_id, len(text))
    except TooLarge as error:
        raise BadInput(error.message) from None
    store.put(session, owner_id, _checked(key), text)


def digest(block_id: str, inputs: Mapping[str, Any], pins: Sequence[str] | None) -> str:
    """What cached outputs are found by: the block and its inputs, or those on `pins` only."""
    wanted = inputs if pins is None else {pin: inputs.get(pin) for pin in pins}
    return hashlib.sha256(dumps([block_id, dict(sorted(wanted.items()))]).encode()).hexdigest()


def cached(session: Session, owner_id: UUID, key: str) -> list[tuple[str, Any]] | None:
    """The outputs that are kept under the digest `key`: (pin, value) in order; None where there are none."""
    text = store.cached(session, owner_id, key)
    return None if text is None else [(pin, value) for pin, value in loads(text)]


def cache(session: Session, owner_id: UUID, key: str, outputs: Sequence[tuple[str, Any]], seconds: float) -> None:
    """Keep outputs for `seconds`, unless they are larger than one value may be."""
    text = dumps([list(output) for output in outputs])
    if len(text.encode()) <= settings().max_value_bytes:
        store.cache(session, owner_id, key, text, seconds)


def _checked(key: str) -> str:
    if storable_text(key) != key or not 0 < len(key.encode()) <= _LONGEST_KEY:
        raise BadInput(f"a key is a text of 1 to {_LONGEST_KEY} bytes")
    return key
