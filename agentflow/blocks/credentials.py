"""Defines credentials: the pin that names one, and the credential itself.

A block declares a pin of type `credentials(...)`, and asks its context for a provider's credential when it runs. The
pin's value only names a credential ({"provider": …}, or what an export wrote). The secret is never an input, so it is
never recorded. It is sent only to the server that its owner set for it: graphs choose the server, and could otherwise
have a password sent to a machine of their author's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field

from agentflow.errors import BadInput


@dataclass(frozen=True, slots=True)
class Credential:
    """Gives a block access to a provider. Unused fields are empty; secrets are not shown in its `repr`.

    Attributes:
        provider: the provider, in lower case: `openai`, `smtp`, …
        api_key: a key or token.
        username: a user name.
        password: its password.
        base_url: the provider's address, if it is not the library's default. Of an `api_key` the operator sets it, so
            it is trusted.
        headers: sent with each request.
        type: `api_key`, `user_password`, `host_scoped` or `oauth2`; None if unknown.
        host: the only host that a user's `host_scoped` one is for, as its owner wrote it (`*.example.com`).
    """

    provider: str
    api_key: str = field(default="", repr=False)
    username: str = ""
    password: str = field(default="", repr=False)
    base_url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    type: str | None = None
    host: str = ""


def credentials(
    *providers: str, types: tuple[str, ...] = ("api_key",), scopes: tuple[str, ...] = (), exclusive: bool = False
) -> Any:
    """The type of a credentials pin that takes these providers' credentials of these types.

    Args:
        providers: their names, in lower case.
        types: what it takes of `api_key`, `user_password`, `host_scoped` and `oauth2`.
        scopes: what a credential of the type `oauth2` must be for.
        exclusive: one node execution at a time may use what the pin gets, whatever its owner says of it.
    """
    extra: dict[str, Any] = {"credentials_provider": list(providers), "credentials_types": list(types)}
    if scopes:
        extra["credentials_scopes"] = list(scopes)
    if exclusive:
        extra["credentials_exclusive"] = True
    return Annotated[dict[str, Any] | None, Field(default=None, json_schema_extra=extra)]


def provider_of(pin: Mapping[str, Any] | None, default: str) -> str:
    """The provider that the value on a credentials pin names, else `default`."""
    named = (pin or {}).get("provider")
    return named.lower() if isinstance(named, str) and named else default


def hold_to_its_server(credential: Credential, host: str, port: int, example: str) -> None:
    """Checks that a credential is sent only to its own server.

    Args:
        credential: names its server in `base_url`; if that has no port, every port is allowed.
        host: the host that the user chose.
        port: the port that the user chose.
        example: an example of a base_url, for the message.

    Raises:
        BadInput: the credential names no server, or another one.
    """
    try:
        site = urlsplit(credential.base_url)
        own_port = site.port
    except ValueError:
        raise BadInput(f"the credential {credential.provider} has a base_url that is no address") from None
    if not site.hostname:
        raise BadInput(
            f"the credential {credential.provider} does not say for which server it is: "
            f"whoever stored it sets its base_url, such as {example}"
        )
    if site.hostname != host.lower() or (own_port or port) != port:
        where = f"{site.hostname}:{own_port}" if own_port else site.hostname
        raise BadInput(f"the credential {credential.provider} is for {where}, and goes nowhere else")


def host_fits(pattern: str, scheme: str, host: str, port: int | None) -> bool:
    """Whether a request may carry the headers of a credential for `pattern`.

    Args:
        pattern: `api.example.com` or `*.example.com`, with `http://` in front and a port behind where they are unusual.
        scheme: of the request: `https` or `http`.
        host: its host, in lower case, as ASCII.
        port: its port; None: the usual one.
    """
    wanted, _, site = pattern.rpartition("://")
    _, _, number = site.partition(":")
    usual = {"http": 80, "https": 443}
    own = wanted or "https"
    if scheme != own or (port or usual[own]) != (int(number) if number else usual[own]):
        return False
    return host_named(pattern, host)


def host_named(pattern: str, host: str) -> bool:
    """Whether `pattern` is for `host`, whatever the port."""
    name = pattern.rpartition("://")[2].partition(":")[0]
    return host.endswith(name[1:]) and len(host) >= len(name) if name.startswith("*.") else host == name
