"""Asks providers of OAuth2 for tokens, and has them revoked. Knows no user and no database.

Whatever a provider answers is one of three things: tokens, a refusal in its own words, or a fault that may pass.
Nothing that it says is shown but its error's name, because the rest may quote a secret. Redirects are not followed: no
provider needs one here, and a secret would follow it.
"""

import asyncio
import base64
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, quote_plus

import httpx
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from agentflow.credentials.oauth2_providers import BY_THEMSELVES, GRANT_IS_OVER, OAuthProvider
from agentflow.errors import BadInput, Conflict, Transient
from agentflow.net.answers import retry_after
from agentflow.net.fetching import Body, Limits, Reply, fetch
from agentflow.net.ssrf import host_and_port
from agentflow.settings import settings
from agentflow.texts import json_value

CALLBACK: Final = "/api/v1/credentials/oauth2/callback"
"""The path to which providers send browsers back."""

ASK_SECONDS: Final = 20.0
"""For one request to a provider, from resolving its name to the last byte."""

_LONGEST_REPLY: Final = 1_000_000  # bytes
_LONGEST_TOKEN: Final = 10_000  # characters, as of any secret
_LONGEST_LIFE: Final = 10 * 366 * 86_400.0  # seconds; more is no life time
_MOST_SCOPES: Final = 100
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,60}")
_TOKEN: Final = re.compile(r"[!-~]+")
_MAY_PASS: Final = frozenset({408, 425, 429})  # statuses below 500


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a provider gave.

    Attributes:
        access: the access token.
        refresh: the refresh token; None: it gave none, and a former one stays good.
        seconds: how long the access token is good; None: for ever, as far as anybody knows.
        scopes: what it is for; None: the provider does not say, so what was asked for.
    """

    access: str = field(repr=False)
    refresh: str | None = field(repr=False)
    seconds: float | None
    scopes: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Refused:
    """A provider said no.

    Attributes:
        error: its name for the error.
        over: whether only the user can help, by authorising again.
    """

    error: str
    over: bool


@dataclass(frozen=True, slots=True)
class Broken:
    """A provider did not answer as it should; the same may work later.

    Attributes:
        why: what is wrong, without anything of what it sent.
        after: seconds to wait, as it asked for; None: it did not say.
    """

    why: str
    after: float | None = None


Answer = Tokens | Refused | Broken


def provider_named(name: str) -> OAuthProvider:
    """The provider of that name, in lower case.

    Raises:
        Conflict: the settings name none.
    """
    found = settings().oauth_providers.get(name) or BY_THEMSELVES.get(name)
    if found is None:
        raise Conflict(f"{name} is no provider of OAuth2 here: its operator adds it to AGENTFLOW_OAUTH_PROVIDERS")
    return found


def redirect_uri() -> str:
    """Where providers send browsers back.

    Raises:
        Conflict: nobody knows this installation's address.
    """
    if settings().public_url is None:
        raise Conflict("nobody can log in at a provider here: its operator sets AGENTFLOW_PUBLIC_URL")
    return f"{settings().public_url}{CALLBACK}"


def address(provider: OAuthProvider, state: str, verifier: str, scopes: tuple[str, ...]) -> str:
    """Where to send a browser so that its user authorises this installation.

    Raises:
        Conflict: nobody knows this installation's address.
    """
    more = dict(provider.authorize_params)
    if provider.pkce:
        more |= {"code_challenge": create_s256_code_challenge(verifier), "code_challenge_method": "S256"}
    if scopes:
        more["scope"] = provider.scope_separator.join(scopes)
    made: str = prepare_grant_uri(
        provider.authorize_url, provider.client_id, "code", redirect_uri=redirect_uri(), state=state, **more
    )
    return made


def exchange(provider: OAuthProvider, code: str, verifier: str) -> Answer:
    """The tokens for a code with which a browser came back."""
    asked = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri()}
    return _tokens(provider, asked | ({"code_verifier": verifier} if provider.pkce else {}))


def refreshed(provider: OAuthProvider, refresh_token: str) -> Answer:
    """New tokens for a refresh token, which may be good for nothing afterwards."""
    return _tokens(provider, {"grant_type": "refresh_token", "refresh_token": refresh_token})


def of_client(provider: OAuthProvider, client_id: str, client_secret: str, scopes: tuple[str, ...]) -> Answer:
    """The token of a user's own client (the grant `client_credentials`)."""
    asked = {"grant_type": "client_credentials"}
    if scopes:
        asked["scope"] = provider.scope_separator.join(scopes)
    answer = _tokens(provider, asked, (client_id, client_secret))
    if isinstance(answer, Refused) and answer.error in ("invalid_client", "unauthorized_client"):
        return Refused(answer.error, over=True)  # the client is the user's
    return answer


def revoke(provider: OAuthProvider, access_token: str, refresh_token: str | None) -> bool:
    """Have a provider revoke tokens; returns whether it did, as far as it says."""
    secret = provider.client_secret.get_secret_value()
    match provider.revoke_with:
        case "bearer":
            reply = _ask(provider, "POST", provider.revoke_url, {"Authorization": f"Bearer {access_token}"}, Body())
        case "github":
            target = provider.revoke_url.replace("{client_id}", quote(provider.client_id, safe=""))
            body = Body(json.dumps({"access_token": access_token}), "application/json")
            reply = _ask(provider, "DELETE", target, _basic(provider.client_id, secret), body)
        case _:
            token = {"token": refresh_token or access_token}
            token |= {"token_type_hint": "refresh_token" if refresh_token else "access_token"}
            headers, fields = _authenticated(provider, (provider.client_id, secret), token)
            reply = _ask(provider, "POST", provider.revoke_url, headers, Body(fields=fields))
    return isinstance(reply, Reply) and 200 <= reply.status < 300


def tried(provider: OAuthProvider, access_token: str) -> Reply | Broken:
    """The reply to a harmless call with a token."""
    return _ask(provider, "GET", provider.test_url, {"Authorization": f"Bearer {access_token}"}, Body())


def _tokens(provider: OAuthProvider, asked: dict[str, str], client: tuple[str, str] | None = None) -> Answer:
    client = client or (provider.client_id, provider.client_secret.get_secret_value())
    headers, fields = _authenticated(provider, client, asked)
    body = Body(json.dumps(fields), "application/json") if provider.json_body else Body(fields=fields)
    reply = _ask(provider, "POST", provider.token_url, headers, body)
    return reply if isinstance(reply, Broken) else _read(provider, reply)


def _authenticated(
    provider: OAuthProvider, client: tuple[str, str], asked: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The headers and fields of a request in which the client says who it is. One without a secret says it only."""
    id, secret = client
    if provider.authenticate == "basic" and secret:
        return _basic(quote_plus(id), quote_plus(secret)), dict(asked)
    return {}, {**asked, "client_id": id, **({"client_secret": secret} if secret else {})}


def _basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def _ask(provider: OAuthProvider, method: str, target: str, headers: dict[str, str], body: Body) -> Reply | Broken:
    """A reply with whatever status, or what kept it away."""
    own = tuple(host_and_port(httpx.URL(one)) for one in provider.addresses)
    limits = Limits((*settings().http_allow, *own), ASK_SECONDS, _LONGEST_REPLY)
    given = {"accept": "application/json", **provider.headers, **headers}
    try:
        return asyncio.run(fetch(method, target, given, body, limits, follows=False))
    except (BadInput, Transient) as error:
        return Broken(error.message)


def _read(provider: OAuthProvider, reply: Reply) -> Answer:
    if reply.status >= 500 or reply.status in _MAY_PASS:
        return Broken(f"it answers {reply.status}", retry_after(reply.headers))
    if 300 <= reply.status < 400:
        return Broken("it redirects, which no token's address does")
    try:
        content = json_value(reply.text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        return Broken(f"it answers {reply.status} with something that is no JSON object")
    error = _error(content)
    if reply.status >= 400 or error is not None or content.get("ok") is False:
        if error is None:
            return Broken(f"it answers {reply.status} without saying why")
        return Refused(error, over=error.lower() in GRANT_IS_OVER | provider.grant_over)
    return _found(provider, content)


def _error(content: Mapping[str, Any]) -> str | None:
    """A provider's name for its error, where it has one that can be shown."""
    said = content.get("error")
    if isinstance(said, Mapping):
        said = said.get("code") or said.get("type") or said.get("status")
    if said is None and "access_token" not in content:
        said = content.get("status") or content.get("code")
    if said is None or said is False:
        return None
    return str(said) if _NAME.fullmatch(str(said)) else "an error without a name"


def _found(provider: OAuthProvider, content: Mapping[str, Any]) -> Tokens | Broken:
    access, refresh = content.get("access_token"), content.get("refresh_token")
    if not _is_token(access):
        return Broken("its reply has no access token")
    if refresh is not None and refresh != "" and not _is_token(refresh):
        return Broken("its reply has a refresh token that is none")
    kind = content.get("token_type")
    if isinstance(kind, str) and kind.lower() in ("mac", "dpop"):
        return Broken("its token is not a bearer token")
    return Tokens(str(access), refresh or None, _seconds(content.get("expires_in"), provider), _scopes(content))


def _is_token(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_TOKEN and _TOKEN.fullmatch(value) is not None


def _seconds(said: object, provider: OAuthProvider) -> float | None:
    """The life time that a reply says, as a number or text; what is none counts as not said."""
    try:
        seconds = float(said) if isinstance(said, int | float | str) and not isinstance(said, bool) else math.nan
    except (ValueError, OverflowError):
        seconds = math.nan
    return seconds if 0 < seconds <= _LONGEST_LIFE else provider.token_seconds


def _scopes(content: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The scopes that a reply says, between spaces or commas, whichever it was asked with."""
    said = content.get("scope")
    words = re.split(r"[\s,]+", said) if isinstance(said, str) else said if isinstance(said, list) else None
    if words is None or len(words) > _MOST_SCOPES:
        return None
    return tuple(dict.fromkeys(word for word in words if _is_token(word) and len(word) <= 1_000)) or None
