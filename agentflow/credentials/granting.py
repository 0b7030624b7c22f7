"""Gives a block the credentials that its node execution may use: read at its start, decrypted when the block asks.

What is not asked for is never decrypted. Nothing decrypted is stored or kept longer than the attempt.
"""

import base64
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from agentflow.blocks.credentials import Credential
from agentflow.clock import now
from agentflow.credentials import choice, store, system
from agentflow.credentials.kinds import Kind, State, standing
from agentflow.credentials.service import bound_of, key_ring, sealed_of
from agentflow.credentials.tables import StoredCredential
from agentflow.engine.execution import ExecutionKey
from agentflow.errors import BadInput
from agentflow.graph.catalogue import HOST_SCOPED, BlockSpec, PinSpec, takes_credential
from agentflow.graph.needed_credentials import providers_of
from agentflow.storage.tables import LimitSlot

NOBODY: Final = UUID(int=0)
"""Whose the operator's credentials are, where a limit spans all owners."""

SLOT: Final = "credential:"
"""The key of the limit that lets one node execution at a time use a credential: this and the credential's id."""

Renewed = Callable[[StoredCredential], StoredCredential]
"""Gives a credential with a token that is good."""

_NOT_GIVEN: Final = ("refresh_token", "client_secret")
"""The parts of a secret that no block gets."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A credential that a block gets.

    Attributes:
        credential: itself.
        secrets: the texts that nothing may show after this.
        noted: the id under which its use is to be noted; None: it was noted a moment ago, or is the operator's.
    """

    credential: Credential
    secrets: frozenset[str]
    noted: UUID | None = None


@dataclass(frozen=True, slots=True)
class Granted:
    """What a node execution may use.

    Attributes:
        block_id: its block.
        named: what its pins name by id; those of the operator by their provider.
        free: the pins that name none by id.
        own: further credentials of the owner that those pins take.
    """

    block_id: str
    named: Sequence[StoredCredential | str] = ()
    free: Sequence[PinSpec] = ()
    own: Sequence[StoredCredential] = field(default=(), repr=False)

    def of(self, provider: str, renewed: Renewed = lambda one: one) -> Grant:
        """The credential for `provider`, decrypted.

        Args:
            provider: its name.
            renewed: gives the credential with a token that is good.

        Raises:
            BadInput: there is none, it cannot be used, or there are several.
            SystemFault: it cannot be decrypted.
        """
        chosen = self.chosen(provider)
        return self._of_the_operator(provider) if chosen is None else _decrypted(renewed(chosen), provider)

    def chosen(self, provider: str) -> StoredCredential | None:
        """Which credential `of` gives; None: the operator's, if there is one.

        Raises:
            BadInput: there is none, it cannot be used, or there are several.
        """
        for one in self.named:
            if isinstance(one, str):
                if one == provider:
                    return None
            elif _answers(one, provider):
                return one
        free = [pin for pin in self.free if takes_credential(pin, provider, None) or _is_host(pin, provider)]
        if self.named and not free:
            raise BadInput(f"the node names a credential by its id, which is none for {provider[:100]}")
        try:
            return choice.only_one(provider, choice.matching(free, provider, self.own))
        except BadInput:
            if not system.is_given(self.block_id, provider):
                raise
            return None

    def priced(self, spec: BlockSpec, given: Mapping[str, Any], later: Collection[str] = ()) -> dict[str, Any]:
        """What a block's costs see of the credentials that it will use: pin → its provider, and whose it is.

        `{"provider": …, "system": true, "id": …}`, where `system` is true for the operator's; whatever the pin itself
        says counts for nothing. A pin is left out whose provider only a run can tell: it depends on pins in `later`,
        or on the host that is asked.
        """
        found = {}
        for pin in credential_pins(spec):
            provider = _provider(pin, spec, given, later)
            if pin.name not in later and provider is not None:
                found[pin.name] = self._shown(provider)
        return found

    def _shown(self, provider: str) -> dict[str, Any]:
        shown = {"provider": provider, "system": False}
        try:
            chosen = self.chosen(provider)
        except BadInput:  # the block gets none
            return shown
        if chosen is not None:
            return {**shown, "id": str(chosen.id)}
        if not system.is_given(self.block_id, provider):
            return shown
        return {"provider": provider, "system": True, "id": str(system.system_id(provider))}

    def _of_the_operator(self, provider: str) -> Grant:
        credential = system.credential_for(self.block_id, provider)
        return Grant(credential, _secrets(credential))


def grant(session: Session, owner_id: UUID, spec: BlockSpec, given: MutableMapping[str, Any]) -> Granted:
    """What a node execution with these inputs, by pin, may use. A pin that names one by id gets its provider and type.

    Raises:
        BadInput: a pin names one that is not there (any more), cannot be used, or does not fit.
    """
    pins = credential_pins(spec)
    ids = {pin.name: id for pin in pins if (id := choice.named_id(given.get(pin.name))) is not None}
    free = [pin for pin in pins if pin.name not in ids]
    providers = {str(one) for pin in free for one in pin.schema.get("credentials_provider") or ()}
    of_hosts = any(HOST_SCOPED in (pin.schema.get("credentials_types") or ()) for pin in free)
    found = store.fitting(session, owner_id, ids.values(), providers, [HOST_SCOPED] if of_hosts else [])
    return granted(spec, given, found)


def granted(spec: BlockSpec, given: MutableMapping[str, Any], found: Sequence[StoredCredential]) -> Granted:
    """What `grant` returns, where the owner's credentials that may fit are known: `found`.

    Raises:
        BadInput: see `grant`.
    """
    pins = credential_pins(spec)
    ids = {pin.name: id for pin in pins if (id := choice.named_id(given.get(pin.name))) is not None}
    free = [pin for pin in pins if pin.name not in ids]
    own = {one.id: one for one in found}
    named: list[StoredCredential | str] = []
    for pin in pins:
        if pin.name in ids:
            id, value = ids[pin.name], given[pin.name]
            provider = choice.named_of_the_operator(pin, value, id)
            one = choice.named_own(pin, value, id, own) if provider is None else provider
            named.append(one)
            given[pin.name] = {**value, "provider": one if isinstance(one, str) else one.provider}
    return Granted(spec.id, named, free, found)


def exclusive_of(session: Session, owner_id: UUID, key: ExecutionKey) -> tuple[bool, Collection[str]]:
    """Whether the owner has a credential for one node execution at a time, and the keys of the slots that `key` has.

    They are asked for together: for most owners that is all that these credentials cost.
    """
    s = LimitSlot
    some = exists().where(StoredCredential.owner_id == owner_id, StoredCredential.exclusive)
    own = (s.run_id == key.run_id, s.node == key.node, s.idx == key.idx, s.key.startswith(SLOT))
    held = select(func.array_agg(s.key)).where(*own).scalar_subquery()
    row = session.execute(select(some, held)).one()
    return bool(row[0]), row[1] or ()


def alone(
    session: Session, owner_id: UUID, spec: BlockSpec, given: Mapping[str, Any], later: Collection[str]
) -> set[tuple[UUID, UUID]]:
    """The credentials that a node execution may get and must then be the only one to use: (whose, id).

    Rather one too many than one too few: where the values do not tell which it gets, all that it may.

    Args:
        session: a session.
        owner_id: whose run it is.
        spec: the block.
        given: what is known of its inputs, by pin.
        later: the pins whose values are not known yet.
    """
    try:
        granted = grant(session, owner_id, spec, dict(given))
    except BadInput:  # it fails when it runs
        return set()
    return for_one(granted, owner_id, spec, given, later)


def for_one(
    granted: Granted, owner_id: UUID, spec: BlockSpec, given: Mapping[str, Any], later: Collection[str] = ()
) -> set[tuple[UUID, UUID]]:
    """What `alone` returns, where it is known what the node execution may use: `granted`."""
    found: set[tuple[UUID, UUID]] = set()
    for pin in credential_pins(spec):
        wanted = bool(pin.schema.get("credentials_exclusive"))
        for one in _possible(pin, spec, given, later, granted):
            if isinstance(one, str):
                found |= {(NOBODY, system.system_id(one))} if wanted else set()
            elif wanted or one.exclusive:
                found.add((owner_id, one.id))
    return found


def lacks(granted: Granted, spec: BlockSpec, given: Mapping[str, Any]) -> bool:
    """Whether a pin gets no credential that can be used, and its block cannot do without.

    Args:
        granted: what the node execution may use.
        spec: the block.
        given: its inputs, by pin.
    """
    needing = [pin for pin in credential_pins(spec) if not pin.schema.get("credentials_optional")]
    return not all(any(map(_is_usable, _possible(pin, spec, given, (), granted))) for pin in needing)


def _is_usable(one: StoredCredential | str) -> bool:
    return isinstance(one, str) or standing(one.state, one.expires_at, now()) is State.VALID


def _possible(
    pin: PinSpec, spec: BlockSpec, given: Mapping[str, Any], later: Collection[str], granted: Granted
) -> Iterator[StoredCredential | str]:
    """The credentials that a pin may get; those of the operator by their provider."""
    id = choice.named_id(given.get(pin.name))
    if id is not None:
        yield from (one for one in granted.named if (system.system_id(one) if isinstance(one, str) else one.id) == id)
        return
    own = [one for one in granted.own if takes_credential(pin, one.provider, one.kind)]
    providers = providers_of(pin, spec, given, later)
    if pin.name in later:
        yield from own
        yield from (provider for provider in providers if system.has_credential(provider))
        return
    yield from (one for one in own if one.kind == Kind.HOST_SCOPED)
    for provider in providers:
        of_provider = [one for one in own if one.provider == provider and one.kind != Kind.HOST_SCOPED]
        yield from of_provider
        if system.has_credential(provider) and not any(map(_is_usable, of_provider)):
            yield provider


def credential_pins(spec: BlockSpec) -> list[PinSpec]:
    """The pins of a block that take credentials."""
    return [pin for pin in spec.inputs.values() if "credentials_provider" in pin.schema]


def _provider(pin: PinSpec, spec: BlockSpec, given: Mapping[str, Any], later: Collection[str]) -> str | None:
    """The provider whose credential the block will ask for; None: only its run can tell.

    A block that takes one provider's asks for that, whatever the pin says.
    """
    providers = list(map(str, pin.schema["credentials_provider"]))
    if HOST_SCOPED in (pin.schema.get("credentials_types") or ()):
        return None
    if len(providers) == 1:
        return providers[0]
    value = given.get(pin.name)
    named = value.get("provider") if isinstance(value, Mapping) else None
    return named.lower() if isinstance(named, str) and named else spec.provider(given, later)


def _is_host(pin: PinSpec, provider: str) -> bool:
    return provider.partition(":")[0] == HOST_SCOPED and HOST_SCOPED in (pin.schema.get("credentials_types") or ())


def _answers(one: StoredCredential, provider: str) -> bool:
    """Whether it is what the block asks for. One for a host is: the block checks the host."""
    return one.provider == provider or (one.kind == Kind.HOST_SCOPED and provider.partition(":")[0] == HOST_SCOPED)


def _decrypted(one: StoredCredential, provider: str) -> Grant:
    secret = key_ring().decrypt(sealed_of(one), bound_of(one))
    details = one.details
    credential = Credential(
        provider,
        secret.get("api_key", "") or secret.get("access_token", ""),
        details.get("username", ""),
        secret.get("password", ""),
        details.get("base_url", ""),
        secret.get("headers", {}),
        one.kind,
        details.get("host", ""),
    )
    recent = one.last_used_at is not None and one.last_used_at > now() - store.USE_RESOLUTION
    # What the block does not get is withheld, too: a provider may tell it elsewhere.
    others = {text for name in _NOT_GIVEN if isinstance(text := secret.get(name), str)}
    return Grant(credential, _secrets(credential) | others, None if recent else one.id)


def _secrets(credential: Credential) -> frozenset[str]:
    """The texts of a credential that must be withheld where a block quotes them."""
    found = {credential.api_key, credential.password, *credential.headers.values()}
    for value in credential.headers.values():  # a server may quote the token alone
        scheme, _, token = value.partition(" ")
        if scheme.lower() in ("bearer", "basic", "token", "apikey"):
            found.add(token.strip())
    if credential.username and credential.password:  # as HTTP's basic authentication sends it
        found.add(base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode())
    return frozenset(found - {""})
