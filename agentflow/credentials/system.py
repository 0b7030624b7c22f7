"""Finds the operator's credentials, which everybody may use, for the blocks that may have them.

A block gets only what its pins declare: credentials of the providers and types that they name. Those of the type
`host_scoped` have names of the operator's choice, and go to pins that take that type.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID, uuid5

from agentflow.blocks import registry
from agentflow.blocks.credentials import Credential
from agentflow.credentials.oauth2_providers import BY_THEMSELVES
from agentflow.engine.codec import dumps
from agentflow.errors import BadInput
from agentflow.graph.catalogue import HOST_SCOPED
from agentflow.settings import ProviderCredential, settings

_WITHOUT: Final = frozenset({"ollama"})
"""Providers that let everybody in."""

_NAMESPACE: Final = UUID("6f0f3c5e-6d0b-5c52-9d7e-3f8f2f0f6f11")
"""Of the ids of the operator's credentials, so that each is the same in every process and after every restart."""

_MOST_SHOWN: Final = 100
"""Characters of a provider's name in a message."""


def has_credential(provider: str) -> bool:
    """Whether there is a credential for a provider, or none is needed."""
    return provider in _WITHOUT or provider in settings().credentials


def system_id(provider: str) -> UUID:
    """The fixed id of the operator's credential for a provider."""
    return uuid5(_NAMESPACE, provider)


def provider_of_id(id: UUID) -> str | None:
    """The provider whose operator's credential has this id; None: there is none."""
    return next((provider for provider in settings().credentials if system_id(provider) == id), None)


def type_of(provider: str) -> str | None:
    """The type of the operator's credential for a provider; None: any that its pins take."""
    return _type(provider, settings().credentials[provider])


def providers() -> list[dict[str, Any]]:
    """Whose credentials the installed blocks take, or users can get: types, blocks, the operator's credential, how."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for block in registry.every():
        for pin in block.spec().inputs.values() if block.enabled else ():
            for provider in pin.schema.get("credentials_provider") or ():
                types, blocks = found.setdefault(str(provider), (set(), set()))
                types.update(pin.schema.get("credentials_types") or ())
                blocks.add(block.name)
    for name in settings().oauth_providers:
        found.setdefault(name, ({"oauth2"}, set()))
    return [
        {"provider": name, "types": sorted(types), "blocks": sorted(blocks), "system_credential": _shown(name)}
        | {"oauth2": _oauth2(name)}
        for name, (types, blocks) in sorted(found.items())
    ]


def _oauth2(name: str) -> dict[str, Any] | None:
    known = settings().oauth_providers.get(name) or BY_THEMSELVES.get(name)
    if known is None:
        return None
    ways = {"login": known.takes_logins, "client_credentials": known.client_credentials}
    return {**ways, "scopes": list(known.scopes)}


def _shown(provider: str) -> dict[str, Any] | None:
    if provider not in settings().credentials:
        return None
    return {"id": system_id(provider), "type": type_of(provider)}


def is_given(block_id: str, provider: str) -> bool:
    """Whether there is a credential for `provider` that the block may have."""
    known = settings().credentials.get(provider)
    return known is not None and registry.get(block_id).spec().takes_credential(provider, _type(provider, known))


def credential_for(block_id: str, provider: str) -> Credential:
    """The credential for `provider`, if that block may have it.

    Raises:
        BadInput: no pin of the block takes it, or there is none.
        NotFound: there is no such block.
    """
    spec = registry.get(block_id).spec()
    known = settings().credentials.get(provider)
    type = _type(provider, known) if known else HOST_SCOPED if _is_host_scoped(provider) else None
    if not spec.takes_credential(provider, type):
        told = (
            f", unless the operator gives it the type {HOST_SCOPED}" if spec.takes_credential("", HOST_SCOPED) else ""
        )
        raise BadInput(f"{spec.name} does not take the credential {provider[:_MOST_SHOWN]}{told}")
    if known is None:
        raise BadInput(
            f"there is no credential for {provider[:_MOST_SHOWN]} here: store one of your own, "
            "or have the operator set one in AGENTFLOW_CREDENTIALS"
        )
    return Credential(
        provider,
        known.api_key.get_secret_value(),
        known.username,
        known.password.get_secret_value(),
        known.base_url,
        {name: value.get_secret_value() for name, value in known.headers.items()},
        type,
    )


def nobodys_credentials(credentials: Mapping[str, ProviderCredential]) -> list[str]:
    """The names of credentials that no block takes: most likely misspelt, or of the wrong type."""
    specs = [block.spec() for block in registry.every()]
    return [
        name
        for name, known in credentials.items()
        if not any(spec.takes_credential(name, _type(name, known)) for spec in specs)
    ]


def mark() -> str:
    """A text that changes whenever a credential of the operator does."""
    return hashlib.sha256(dumps(settings().revealed_credentials()).encode()).hexdigest()


def _type(name: str, known: ProviderCredential) -> str | None:
    """The type that it declares, or that its name or headers imply (no block's provider is used by headers alone)."""
    if known.type is None and (_is_host_scoped(name) or (known.is_headers_only and name not in _named_providers())):
        return HOST_SCOPED
    return known.type


def _is_host_scoped(name: str) -> bool:
    return name.partition(":")[0] == HOST_SCOPED


def _named_providers() -> set[str]:
    schemas = [pin.schema for block in registry.every() for pin in block.spec().inputs.values()]
    return {str(provider) for schema in schemas for provider in schema.get("credentials_provider") or ()}
