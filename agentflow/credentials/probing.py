"""Tries a credential by a call that changes nothing and costs nothing, where its provider has one."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from agentflow.clock import now
from agentflow.credentials import oauth2, oauth2_tokens, renewing, service
from agentflow.credentials.kinds import Kind, State, standing
from agentflow.credentials.oauth2_tokens import Broken, Refused
from agentflow.credentials.tables import StoredCredential
from agentflow.errors import BadInput, Busy, Conflict, Transient
from agentflow.net.fetching import Body, Limits, fetch
from agentflow.settings import settings

_SECONDS: Final = 10.0
_LONGEST_REPLY: Final = 5_000_000  # bytes: a list of models

_BEARER: Final = {"Authorization": "Bearer {}"}


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of it.

    Attributes:
        ok: whether the provider takes the credential.
        detail: in words.
    """

    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class _Probe:
    """A harmless GET: its address, and headers in which `{}` stands for the key."""

    url: str
    headers: dict[str, str]


_UNSENDABLE: Final = Tried(False, "it has characters that cannot be sent in a header")

PROBES: Final[dict[str, _Probe]] = {
    # https://platform.openai.com/docs/api-reference/models/list
    "openai": _Probe("https://api.openai.com/v1/models", _BEARER),
    # https://docs.anthropic.com/en/api/models-list
    "anthropic": _Probe("https://api.anthropic.com/v1/models", {"x-api-key": "{}", "anthropic-version": "2023-06-01"}),
    # https://console.groq.com/docs/api-reference#models-list
    "groq": _Probe("https://api.groq.com/openai/v1/models", _BEARER),
    # https://openrouter.ai/docs/api-reference/api-keys/get-current-api-key: its list of models needs no key
    "open_router": _Probe("https://openrouter.ai/api/v1/key", _BEARER),
    # https://docs.github.com/en/rest/users/users#get-the-authenticated-user
    "github": _Probe("https://api.github.com/user", _BEARER),
}
"""Provider → how its `api_key` is tried. Those of OAuth2 have their `test_url`."""


def probe(one: StoredCredential) -> Tried:
    """Try a credential. Open no transaction meanwhile: the provider may be slow.

    Raises:
        Conflict: there is no harmless call for it.
        Busy: the provider does not answer as it should.
        SystemFault: the secret cannot be decrypted.
    """
    if one.kind == Kind.API_KEY and one.provider in PROBES:
        if standing(one.state, one.expires_at, now()) is State.EXPIRED:
            return Tried(False, "it has expired")
        return _by_key(one, PROBES[one.provider])
    if one.kind == Kind.OAUTH2:
        return _by_token(one)
    raise _impossible(one)


def _impossible(one: StoredCredential) -> Conflict:
    return Conflict(f"nothing harmless can be asked of {one.provider} with the type {one.kind}: it cannot be tried")


def _by_key(one: StoredCredential, asked: _Probe) -> Tried:
    key = _hidden(one)["api_key"]
    if not key.isascii():
        return _UNSENDABLE
    headers = {name: value.replace("{}", key) for name, value in asked.headers.items()}
    limits = Limits(settings().http_allow, _SECONDS, _LONGEST_REPLY)
    try:
        return _told(one, asyncio.run(fetch("GET", asked.url, headers, Body(), limits, follows=False)).status)
    except (BadInput, Transient) as error:
        raise _broken(one, error.message) from None


def _by_token(one: StoredCredential) -> Tried:
    provider = oauth2_tokens.provider_named(one.provider)
    client = oauth2.client_of(one, _hidden(one))
    if client is not None:  # a token of its own is harmless, and says all
        scopes = tuple(map(str, one.details.get("scopes", ())))
        answer = oauth2_tokens.of_client(provider, client.id, client.secret, scopes)
        if isinstance(answer, Broken):
            raise _broken(one, answer.why)
        if isinstance(answer, Refused):
            return Tried(False, f"{one.provider} refuses it ({answer.error})")
        return Tried(True, _takes(one))
    if not provider.test_url:
        raise _impossible(one)
    if one.state == State.NEEDS_REAUTHORISATION:
        return Tried(False, "its owner must authorise it again")
    try:
        token = _hidden(renewing.current(one))["access_token"]
    except BadInput as error:
        return Tried(False, error.message)
    except Transient as error:
        raise Busy(error.message) from None
    if not token.isascii():
        return _UNSENDABLE
    reply = oauth2_tokens.tried(provider, token)
    if isinstance(reply, Broken):
        raise _broken(one, reply.why)
    return _told(one, reply.status)


def _told(one: StoredCredential, status: int) -> Tried:
    if 200 <= status < 300:
        return Tried(True, _takes(one))
    if status in (401, 403):
        return Tried(False, f"{one.provider} refuses it (status {status})")
    raise _broken(one, f"it answers {status}")


def _takes(one: StoredCredential) -> str:
    return f"{one.provider} takes it"


def _broken(one: StoredCredential, why: str) -> Busy:
    return Busy(f"{one.provider} does not answer as it should ({why}); try again")


def _hidden(one: StoredCredential) -> dict[str, Any]:
    return service.key_ring().decrypt(service.sealed_of(one), service.bound_of(one))
