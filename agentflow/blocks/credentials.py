"""What lets a block in at a service: the pin that names a credential, and the credential itself.

A block declares a pin of type `credentials(...)`, and asks its context for the credential of a provider when it runs.
The value on the pin only names one ({"provider": …}, or what an export wrote); the secret itself is never an input, so
it is never recorded. It goes only to the server that its operator named for it: users choose the server, so without
this any of them could have a password sent to a machine of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field

from agentflow.errors import BadInput


@dataclass(frozen=True, slots=True)
class Credential:
    """What lets a block in at a provider. Empty where it does not apply; secrets do not show in its `repr`.

    Attributes:
        provider: whom it is for, in lower case: `openai`, `smtp`, …
        api_key: a key or token.
        username: a user's name.
        password: a user's password.
        base_url: where the provider is, if not where its library looks. Named by the operator, so it is trusted.
        headers: sent with each request.
        type: `api_key`, `user_password` or `host_scoped`; None: it does not say.
    """

    provider: str
    api_key: str = field(default="", repr=False)
    username: str = ""
    password: str = field(default="", repr=False)
    base_url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    type: str | None = None


def credentials(*providers: str, types: tuple[str, ...] = ("api_key",)) -> Any:
    """The type of a credentials pin: which providers' credentials do, and of which types."""
    extra: dict[str, Any] = {"credentials_provider": list(providers), "credentials_types": list(types)}
    return Annotated[dict[str, Any] | None, Field(default=None, json_schema_extra=extra)]


def provider_of(pin: Mapping[str, Any] | None, default: str) -> str:
    """The provider that the value on a credentials pin names, else `default`."""
    named = (pin or {}).get("provider")
    return named.lower() if isinstance(named, str) and named else default


def hold_to_its_server(credential: Credential, host: str, port: int, example: str) -> None:
    """
    Args:
        credential: with the server in `base_url`; without a port there, any port of it.
        host: where the user wants it sent.
        port: likewise.
        example: how a base_url looks.

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
            f"the operator sets its base_url, such as {example}"
        )
    if site.hostname != host.lower() or (own_port or port) != port:
        where = f"{site.hostname}:{own_port}" if own_port else site.hostname
        raise BadInput(f"the credential {credential.provider} is for {where}, and goes nowhere else")
