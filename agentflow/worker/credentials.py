"""Reads the credentials of a node execution at its start, and gives them to its block when that asks.

A block that takes none costs nothing here. Nothing decrypted leaves the attempt: what the block got is withheld from
all that it gives (`Attempt.without_secrets`).
"""

from collections.abc import Mapping, MutableMapping
from dataclasses import fields, replace
from functools import cache
from typing import Any, Final
from uuid import UUID

from agentflow.blocks import registry
from agentflow.blocks.credentials import Credential
from agentflow.credentials import granting, renewing, store, system
from agentflow.credentials.granting import Granted
from agentflow.engine.codec import loads
from agentflow.engine.execution import ExecutionKey
from agentflow.engine.inputs import collect, prepare
from agentflow.engine.waits import Asleep, Wait
from agentflow.errors import BadInput, NotFound
from agentflow.graph.catalogue import BlockSpec
from agentflow.services.transaction import transaction
from agentflow.storage.hot.node_executions import SlotLimit
from agentflow.worker.attempt import Attempt
from agentflow.worker.follow import publish_others
from agentflow.worker.process import Process, RunContext

_GIVEN: Final = frozenset({"state", "data", "inputs", "name", "key"})
"""The parts of a wait that are stored or shown as the block gives them."""


_SLOT_TRIES: Final = 20
"""Attempts in which a slot may be missing that the claim should have brought: nothing goes round for ever."""


class SlotMissing(Exception):
    """An attempt may get a credential that one alone may use, and has no slot of it: that changed after its claim."""


@cache
def _takes_any(block_id: str) -> bool:
    try:
        return bool(granting.credential_pins(registry.get(block_id).spec()))
    except NotFound:  # it fails when it runs
        return False


def slots(state: Process, run: RunContext, key: ExecutionKey, pins: list[str]) -> list[SlotLimit] | None:
    """The limits that a node execution is under because one alone may use a credential that it may get.

    What it has got in line and needs no more, because the credential was deleted or shared meanwhile, goes to the next.

    Args:
        state: this process.
        run: its run.
        key: the node execution, which is not claimed yet.
        pins: its linked pins.

    Returns:
        None: nobody has such a credential, and it holds no slot of one.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    node = run.plan.nodes[key.node]
    if not _takes_any(node.block_id):
        return None
    spec = registry.get(node.block_id).spec()
    with transaction() as session:
        for_one = any(pin.schema.get("credentials_exclusive") for pin in granting.credential_pins(spec))
        some, held = granting.exclusive_of(session, run.owner_id, key)
        if not for_one and not some and not held:
            return None
    needed = _needed(state, run, key, spec, pins)
    if set(held) - {one.key for one in needed}:
        with state.lock:
            freed = state.hot.free_unneeded(key, [one.key for one in needed])
        publish_others(state, freed)
    return needed


def _needed(state: Process, run: RunContext, key: ExecutionKey, spec: BlockSpec, pins: list[str]) -> list[SlotLimit]:
    node = run.plan.nodes[key.node]
    delivered: dict[str, Any] = {}
    if pins:
        with state.lock:
            _, text = state.hot.peek(key, pins)
        delivered = loads(text) if text else {}
    mask = run.masks.get(node.id, {})
    try:
        given = prepare(collect(node, delivered, mask), spec)  # as the attempt sees it: so both find the same
        with transaction() as session:
            found = granting.alone(session, run.owner_id, spec, given, set(node.pins) - delivered.keys() - mask.keys())
    except BadInput:  # it fails when it runs
        return []
    return [SlotLimit(owner_id, f"{granting.SLOT}{id}", 1) for owner_id, id in found]


def load(attempt: Attempt, spec: BlockSpec, given: MutableMapping[str, Any]) -> bool:
    """Read what the attempt may use; pins in `given` that name one by id get its provider.

    Returns:
        whether the block is to run: not if a credential is missing and the node says that they are optional.

    Raises:
        BadInput: a pin names one that is not there (any more), cannot be used, or does not fit.
        SlotMissing: one became exclusive, or another was chosen, since `slots` was asked.
    """
    if not _takes_any(attempt.node.block_id):
        return True
    owner_id = attempt.run.owner_id
    with transaction() as session:
        attempt.granted = granting.grant(session, owner_id, spec, given)
    needed = {f"{granting.SLOT}{id}" for _, id in granting.for_one(attempt.granted, owner_id, spec, given)}
    if needed - attempt.slots:
        if attempt.claim.attempt >= _SLOT_TRIES:
            raise BadInput("a credential that one node execution at a time may use changes all the time")
        raise SlotMissing
    return not (attempt.node.credentials_optional and granting.lacks(attempt.granted, spec, given))


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
        BadInput: there is none that it may have, or its provider refuses it.
        Transient: its token is due to be renewed, and its provider does not do so now.
        SystemFault: it cannot be decrypted.
    """
    granted = attempt.granted or Granted(attempt.node.block_id)
    chosen = granted.chosen(provider)
    if chosen is not None and chosen.exclusive and f"{granting.SLOT}{chosen.id}" not in attempt.slots:
        raise BadInput(
            f"the credential {chosen.title!r} is for one node execution at a time, and the pins of this one do not say "
            f"that its block will ask for {provider[:100]}"
        )
    grant = granted.of(provider, renewing.current)
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
