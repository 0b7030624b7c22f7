"""Reads the credentials of a node execution at its start, and gives them to its block when that asks.

A block that takes none costs nothing here. Nothing decrypted leaves the attempt: what the block got is withheld from
all that it gives (`Attempt.without_secrets`).
"""

from collections.abc import Mapping, MutableMapping
from dataclasses import fields, replace
from typing import Any, Final
from uuid import UUID

from agentflow.blocks.credentials import Credential
from agentflow.credentials import granting, store, system
from agentflow.credentials.granting import Granted
from agentflow.engine.waits import Asleep, Wait
from agentflow.graph.catalogue import BlockSpec
from agentflow.services.transaction import transaction
from agentflow.worker.attempt import Attempt

_GIVEN: Final = frozenset({"state", "data", "inputs", "name"})
"""The parts of a wait that are stored or shown as the block gives them."""


def load(attempt: Attempt, spec: BlockSpec, given: MutableMapping[str, Any]) -> None:
    """Read what the attempt may use; pins in `given` that name one by id get its provider.

    Raises:
        BadInput: a pin names one that is not there (any more), cannot be used, or does not fit.
    """
    if granting.credential_pins(spec):
        with transaction() as session:
            attempt.granted = granting.grant(session, attempt.run.owner_id, spec, given)


def priced(attempt: Attempt, spec: BlockSpec, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The inputs as the block's costs see them: with the credentials that it will use, whatever its pins say."""
    pins = granting.credential_pins(spec)
    if not pins:
        return given
    found = (attempt.granted or Granted(spec.id, free=pins)).priced(spec, given)
    return {**given, **{pin.name: None for pin in pins}, **found}


def given(attempt: Attempt, provider: str) -> Credential:
    """The credential that the block asks for. Its use is noted, once a minute at most.

    Raises:
        BadInput: there is none that it may have.
        SystemFault: it cannot be decrypted.
    """
    grant = (attempt.granted or Granted(attempt.node.block_id)).of(provider)
    attempt.hand(grant.secrets)
    if grant.noted is not None:
        with transaction() as session:
            store.note_use(session, grant.noted)
    return grant.credential


def withheld(attempt: Attempt, wait: Wait | Asleep) -> Wait | Asleep:
    """A wait without the secrets that the block got."""
    if not attempt.handed or isinstance(wait, Asleep):
        return wait
    named = [field.name for field in fields(wait) if field.name in _GIVEN]
    return replace(wait, **{name: attempt.without_secrets(getattr(wait, name)) for name in named})


def mark(owner_id: UUID) -> str:
    """A text that changes whenever a credential of the owner or the operator does."""
    with transaction() as session:
        return f"{system.mark()} {store.mark(session, owner_id)}"
