"""Checks at a submission that each pin will get a credential, without decrypting any."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.credentials import choice, store, system
from agentflow.credentials.tables import StoredCredential
from agentflow.errors import BadInput, Problem
from agentflow.graph.catalogue import HOST_SCOPED
from agentflow.graph.needed_credentials import Need, credential_problems, missing


def problems(session: Session, owner_id: UUID, needs: Iterable[Need]) -> list[Problem]:
    """An error for each pin whose credential is missing, unusable, another's, or of the wrong provider or type.

    The database is asked only where the operator's credentials do not answer.
    """
    checked = [need for need in needs if not need.later]
    ids = {id for need in checked if (id := _id(need)) is not None and system.provider_of_id(id) is None}
    unmet = [need for need in checked if _id(need) is None and not need.optional and not _operators(need)]
    own: dict[UUID, StoredCredential] = {}
    if ids or unmet:
        providers = {provider for need in unmet for provider in need.providers}
        of_hosts = any(HOST_SCOPED in (need.pin.schema.get("credentials_types") or ()) for need in unmet)
        found = store.fitting(session, owner_id, ids, providers, [HOST_SCOPED] if of_hosts else [])
        own = {one.id: one for one in found}
    return credential_problems(checked, lambda need: _wrong(need, own))


def _wrong(need: Need, own: Mapping[UUID, StoredCredential]) -> str | None:
    try:
        id = choice.named_id(need.value)
        if id is not None:
            value: Mapping[str, Any] = need.value
            if choice.named_of_the_operator(need.pin, value, id) is None:
                choice.named_own(need.pin, value, id, own)
            return None
        if need.optional or _operators(need) or _any_host(need, own):
            return None
        found = [(one, choice.matching([need.pin], one, own.values())) for one in need.providers]
        if any(choice.only_one(provider, those) is not None for provider, those in found):
            return None
    except BadInput as error:
        return error.message
    return missing(need)


def _id(need: Need) -> UUID | None:
    try:
        return choice.named_id(need.value)
    except BadInput:
        return None


def _operators(need: Need) -> bool:
    return any(map(system.has_credential, need.providers))


def _any_host(need: Need, own: Mapping[UUID, StoredCredential]) -> bool:
    """Whether the pin takes those for hosts, and the owner has some: for which host, only the block knows."""
    types = need.pin.schema.get("credentials_types") or ()
    return HOST_SCOPED in types and any(one.kind == HOST_SCOPED for one in own.values())
