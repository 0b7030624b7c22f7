"""Decides which credential a pin gets, without its secret: by the submission's check and by the worker alike.

The pin's value may name one by id (a submission's `credentials` become such values); it must be the owner's or the
operator's, and fit the pin. Without an id it is the only matching one of the owner, else the operator's.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import UUID

from agentflow.blocks.credentials import host_named
from agentflow.clock import now
from agentflow.credentials import system
from agentflow.credentials.kinds import Kind, State, standing
from agentflow.credentials.scopes import refuse_narrow, wide_enough
from agentflow.credentials.tables import StoredCredential
from agentflow.errors import Ambiguous, BadInput
from agentflow.graph.catalogue import HOST_SCOPED, PinSpec, takes_credential

_MOST_SHOWN: Final = 100
"""Characters of what a value says, in a message."""

_ANY_HOST: Final = frozenset({"http", HOST_SCOPED})
"""Provider names on a pin that mean any credential for a host."""


def named_id(value: Any) -> UUID | None:
    """The id that a pin's value names; None: it names none.

    Raises:
        BadInput: it is no id.
    """
    id = value.get("id") if isinstance(value, Mapping) else None
    if id is None or id == "":
        return None
    try:
        return UUID(id)
    except (ValueError, AttributeError, TypeError):
        raise BadInput(f"there is no credential {str(id)[:_MOST_SHOWN]}") from None


def named_of_the_operator(pin: PinSpec, value: Mapping[str, Any], id: UUID) -> str | None:
    """The provider of the operator's credential with that id; None: it is not the operator's.

    Raises:
        BadInput: it is, and does not fit the pin.
    """
    provider = system.provider_of_id(id)
    if provider is not None:
        type = system.type_of(provider)
        _refuse_unfit(pin, value, f"the operator's credential for {provider}", provider, type)
    return provider


def named_own(
    pin: PinSpec, value: Mapping[str, Any], id: UUID, own: Mapping[UUID, StoredCredential]
) -> StoredCredential:
    """The owner's credential with that id.

    Raises:
        BadInput: there is none (another's is as unknown as one that never was), or it does not fit, or cannot be used.
    """
    found = own.get(id)
    if found is None:
        raise BadInput(f"there is no credential {id}: it was deleted, or is not yours")
    _refuse_unfit(pin, value, f"the credential {found.title!r}", found.provider, found.kind)
    refuse_narrow(pin, found)
    _refuse_unusable(found)
    return found


def matching(pins: Iterable[PinSpec], provider: str, own: Iterable[StoredCredential]) -> list[StoredCredential]:
    """The owner's credentials that these pins take for a provider, unusable ones too.

    `host_scoped:<host>` asks for the most specific one for that host.

    Raises:
        BadInput: there are some, and all lack scopes that the pins need.
    """
    pins = list(pins)
    fitting = [one for one in own if any(takes_credential(pin, one.provider, one.kind) for pin in pins)]
    prefix, _, host = provider.partition(":")
    if prefix != HOST_SCOPED:
        return wide_enough(pins, [one for one in fitting if one.provider == provider])
    patterns = {one.id: str(one.details.get("host", "")) for one in fitting if one.kind == Kind.HOST_SCOPED}
    for_it = [one for one in fitting if one.id in patterns and host and host_named(patterns[one.id], _ascii(host))]
    best = max((_precision(patterns[one.id]) for one in for_it), default=None)
    return [one for one in for_it if _precision(patterns[one.id]) == best]


def only_one(provider: str, found: list[StoredCredential]) -> StoredCredential | None:
    """The one that can be used; None: there is none.

    Raises:
        Ambiguous: there are several.
        BadInput: none of them can be used.
    """
    usable = [one for one in found if standing(one.state, one.expires_at, now()) is State.VALID]
    if len(usable) > 1:
        raise Ambiguous(
            f"{len(usable)} of your credentials for {provider[:_MOST_SHOWN]} fit: name one by its id on the node or in "
            "the submission's `credentials`"
        )
    if found and not usable:
        _refuse_unusable(found[0])
    return usable[0] if usable else None


def _refuse_unfit(pin: PinSpec, value: Mapping[str, Any], what: str, provider: str, type: str | None) -> None:
    if not takes_credential(pin, provider, type):
        takes = " or ".join(map(str, pin.schema.get("credentials_provider") or ()))
        types = " or ".join(map(str, pin.schema.get("credentials_types") or ()))
        raise BadInput(f"{what} is for {provider} ({type or 'any type'}), and this pin takes {takes} ({types})")
    named = value.get("provider")
    any_host = type == HOST_SCOPED and str(named).lower() in _ANY_HOST
    if isinstance(named, str) and named and named.lower() != provider and not any_host:
        raise BadInput(f"{what} is for {provider}, not for {named[:_MOST_SHOWN]}")
    told = value.get("type")
    if isinstance(told, str) and told and type is not None and told != type:
        raise BadInput(f"{what} is of the type {type}, not {told[:_MOST_SHOWN]}")


def _refuse_unusable(found: StoredCredential) -> None:
    state = standing(found.state, found.expires_at, now())
    if state is State.EXPIRED:
        raise BadInput(f"the credential {found.title!r} has expired: give it a new secret, or another expiry")
    if state is State.NEEDS_REAUTHORISATION:
        raise BadInput(f"the credential {found.title!r} needs to be authorised again")


def _precision(pattern: str) -> tuple[bool, int]:
    """An exact host before a pattern, a longer one before a shorter."""
    name = pattern.rpartition("://")[2]
    return not name.startswith("*."), len(name.partition(":")[0])


def _ascii(host: str) -> str:
    try:
        return host.encode("idna").decode().lower()
    except UnicodeError:
        return host.lower()
