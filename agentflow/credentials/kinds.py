"""Defines the kinds and states of credentials, and which parts of each kind are secret.

The API, the pins of nodes and the operator's settings call a kind the `type` of a credential.
"""

import re
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

RENEWED_BEFORE: Final = timedelta(minutes=5)
"""Before the end of an access token: clocks differ, and a block may use it for a while."""

_LONGEST: Final = 10_000
"""Characters of one secret text."""

_MOST_HEADERS: Final = 50

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")  # which have no form in UTF-8
_NO_CONTROLS: Final = r"^[^\x00-\x1f\x7f]*$"
_HEADER_NAME: Final = r"[A-Za-z0-9_-]{1,200}"
_SCHEME: Final = r"[A-Za-z][A-Za-z0-9+-]*"
_HOST: Final = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,250}[A-Za-z0-9])?"
_PORT: Final = r"(:[1-9][0-9]{0,3}|:[1-5][0-9]{4}|:6[0-4][0-9]{3}|:65[0-4][0-9]{2}|:655[0-2][0-9]|:6553[0-5])?"

HOST_PATTERN: Final = rf"^(https?://)?(\*\.[A-Za-z0-9_-]+\.)?{_HOST}{_PORT}$"
ADDRESS_PATTERN: Final = rf"^{_SCHEME}://{_HOST}{_PORT}(/[^\x00-\x20\x7f]*)?(\?[^\x00-\x20\x7f]*)?$"


class Kind(StrEnum):
    """What a credential consists of."""

    API_KEY = "api_key"
    USER_PASSWORD = "user_password"  # noqa: S105 -- the name of a kind
    HOST_SCOPED = "host_scoped"  # headers for one site
    OAUTH2 = "oauth2"


class State(StrEnum):
    """Whether a credential can be used."""

    VALID = "valid"
    EXPIRED = "expired"  # derived from `expires_at`, never stored
    NEEDS_REAUTHORISATION = "needs_reauthorisation"  # its provider refuses it: its owner must give it anew


STORED_STATES: Final = frozenset({State.VALID, State.NEEDS_REAUTHORISATION})


def _one_line(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if _CONTROLS.search(text) or _SURROGATES.search(text):
        raise ValueError("it must be one line without control characters")
    return value


def _header_names(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    """Checked here, because pydantic would name a wrong one, and people put the value in its place."""
    if not all(re.fullmatch(_HEADER_NAME, name) for name in headers):
        raise ValueError("a header's name consists of ASCII letters, digits and -")
    return headers


def _header_value(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.isascii() or text != text.strip():
        raise ValueError("a header's value is ASCII text without spaces around it")
    return _one_line(value)


_NAMES: Final[dict[str, Any]] = {"pattern": f"^{_HEADER_NAME}$"}

SecretText = Annotated[
    SecretStr,
    Field(min_length=1, max_length=_LONGEST, json_schema_extra={"pattern": _NO_CONTROLS}),
    AfterValidator(_one_line),
]
HeaderValue = Annotated[
    SecretStr,
    Field(min_length=1, max_length=_LONGEST, json_schema_extra={"pattern": r"^[!-~]([ -~]*[!-~])?$"}),
    AfterValidator(_header_value),
]
Line = Annotated[str, Field(min_length=1, max_length=1_000, pattern=_NO_CONTROLS)]


class _Secret(BaseModel):
    """What a user stores; a wrong one is never quoted."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    def shown(self) -> dict[str, Any]:
        """The parts that its owner may see again."""
        return {}

    def hidden(self) -> dict[str, Any]:
        """The parts that only blocks get, in plain text."""
        raise NotImplementedError


class ApiKeySecret(_Secret):
    """A key or token of a provider."""

    type: Literal["api_key"]
    api_key: SecretText

    def hidden(self) -> dict[str, Any]:
        return {"api_key": self.api_key.get_secret_value()}


class UserPasswordSecret(_Secret):
    """A user name and its password."""

    type: Literal["user_password"]
    username: Line
    password: SecretText
    base_url: str | None = Field(
        None,
        max_length=2_000,
        pattern=ADDRESS_PATTERN,
        description="The server that it is for, such as smtp://mail.example.com:587. Blocks that let the graph choose "
        "a server send it to this one only.",
    )

    def shown(self) -> dict[str, Any]:
        return {"username": self.username, **({"base_url": self.base_url} if self.base_url else {})}

    def hidden(self) -> dict[str, Any]:
        return {"password": self.password.get_secret_value()}


class HostScopedSecret(_Secret):
    """Headers that are sent with requests to one site, and nowhere else."""

    type: Literal["host_scoped"]
    host: str = Field(
        max_length=300,
        pattern=HOST_PATTERN,
        description="`api.example.com`, or `*.example.com` for all hosts below that one; with a port where it is not "
        "the usual one, and `http://` where it is not https.",
    )
    headers: Annotated[
        dict[str, HeaderValue],
        Field(min_length=1, max_length=_MOST_HEADERS, json_schema_extra={"propertyNames": _NAMES}),
        AfterValidator(_header_names),
    ]

    def shown(self) -> dict[str, Any]:
        return {"host": self.host.lower(), "headers": sorted(self.headers)}

    def hidden(self) -> dict[str, Any]:
        return {"headers": {name: value.get_secret_value() for name, value in self.headers.items()}}


class OAuth2Secret(_Secret):
    """Tokens that a provider issued."""

    type: Literal["oauth2"]
    access_token: SecretText
    refresh_token: SecretText | None = None
    scopes: Annotated[list[Line], Field(max_length=100)] = []
    username: Line | None = None

    def shown(self) -> dict[str, Any]:
        return {"scopes": self.scopes, **({"username": self.username} if self.username else {})}

    def hidden(self) -> dict[str, Any]:
        refresh = {} if self.refresh_token is None else {"refresh_token": self.refresh_token.get_secret_value()}
        return {"access_token": self.access_token.get_secret_value(), **refresh}


Secret = Annotated[ApiKeySecret | UserPasswordSecret | HostScopedSecret | OAuth2Secret, Field(discriminator="type")]


def standing(state: str, expires_at: datetime | None, now: datetime) -> State:
    """The state of a stored credential at the time `now`."""
    stored = State(state)
    return State.EXPIRED if stored is State.VALID and expires_at is not None and expires_at <= now else stored


def renewal_due(expires_at: datetime, seconds: float | None) -> datetime:
    """When an access token is renewed: `RENEWED_BEFORE` its end; one that lives shortly, after half of its life.

    Args:
        expires_at: its end.
        seconds: its whole life; None: nobody knows, and long.
    """
    before = RENEWED_BEFORE if seconds is None else min(RENEWED_BEFORE, timedelta(seconds=seconds / 2))
    return expires_at - before
