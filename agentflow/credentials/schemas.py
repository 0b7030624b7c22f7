"""Defines requests and replies about credentials. No reply has room for a secret."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field

from agentflow.accounts.schemas import Name
from agentflow.credentials.kinds import Kind, Secret, State
from agentflow.schemas.base import Page, PageQuery, Reply, Request

Provider = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""The name of a provider."""


def _in_utc(when: datetime) -> datetime:
    """The same time in UTC, which neither the database nor Python may be unable to write."""
    try:
        return when.astimezone(UTC)
    except OverflowError:
        raise ValueError("the year must be 1 to 9999 in UTC") from None


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A time with a time zone."""


class NewCredential(Request):
    """A credential to be."""

    provider: Provider = Field(description="Whose it is, as `GET /providers` names it.")
    title: Name | None = Field(None, description="Left out: the provider's name.")
    secret: Secret = Field(description="What is kept encrypted, and never shown again.")
    expires_at: Moment | None = Field(None, description="When it stops working; left out: never.")
    exclusive: bool = Field(False, description="One node execution at a time may use it; others wait their turn.")


class ChangeCredential(Request):
    """What is to be another; what is left out stays."""

    title: Name | None = None
    secret: Secret | None = Field(None, description="Of the same type as before.")
    expires_at: Moment | None = Field(None, description="null: never.")
    exclusive: bool | None = Field(None, description="Whether one node execution at a time may use it.")


class CredentialView(Reply):
    """A credential, without its secret."""

    id: UUID
    provider: str
    type: Kind
    title: str
    state: State
    details: dict[str, Any] = Field({}, description="User name, host, names of headers, scopes: what is not secret.")
    created_at: datetime
    updated_at: datetime
    last_used_at: datetime | None = Field(None, description="To the minute.")
    expires_at: datetime | None = None
    exclusive: bool = Field(False, description="One node execution at a time may use it.")


class CredentialList(Page):
    """Credentials, the newest first."""

    items: list[CredentialView]


class CredentialDeletionQuery(Request):
    """Whether to delete what is in use."""

    force: bool = Field(False, description="Also where something names it, which fails then.")


class CredentialListQuery(PageQuery):
    """Which credentials."""

    provider: Provider | None = None


class SystemCredential(Reply):
    """A credential of the operator, which everybody may use and nobody may read."""

    id: UUID
    type: Kind | None = Field(None, description="null: any that the pins of its provider take.")


class ProviderView(Reply):
    """A provider whose credentials blocks take."""

    provider: str
    types: list[Kind]
    blocks: list[str] = Field(description="The names of the blocks that take them.")
    system_credential: SystemCredential | None = Field(None, description="The operator's, if there is one.")


class ProviderList(Reply):
    """Providers, by name."""

    items: list[ProviderView]
