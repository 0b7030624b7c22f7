"""How does a block get at a key or password for a service?

It declares a pin of type `credentials(...)`, and asks its context for the credential of a provider when it runs. The
value on the pin only names one ({"provider": …}, or what an export wrote); the secret itself is never an input, and so
never recorded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field


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
