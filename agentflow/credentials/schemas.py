"""Defines requests and replies about credentials. No reply has room for a secret."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from agentflow.accounts.schemas import Name
from agentflow.credentials.kinds import Kind, Secret, SecretText, State
from agentflow.schemas.base import Moment, Page, PageQuery, Reply, Request

Provider = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""The name of a provider."""


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


Scope = Annotated[str, Field(min_length=1, max_length=1_000, pattern=r"^[!#-\[\]-~]+$")]
"""A scope, as RFC 6749 writes it."""

Scopes = Annotated[list[Scope], Field(max_length=100)]


class BeginLogin(Request):
    """A login at a provider of OAuth2, where you allow this installation to act for you."""

    provider: Provider = Field(description="One whose `oauth2.login` is true in `GET /providers`.")
    scopes: Scopes | None = Field(
        None, description="What to ask for; left out: what the credential has, else the provider's usual ones."
    )
    title: Name | None = Field(None, description="Left out: the provider's name, or as it is.")
    credential_id: UUID | None = Field(None, description="The credential to authorise again; left out: a new one.")


class LoginBegun(Reply):
    """A login that has begun. It counts once, and for you only."""

    authorization_url: str = Field(description="Open this in a browser.")
    state: str = Field(description="The browser brings it back with a code.")
    expires_at: datetime


class EndLogin(Request):
    """What the browser came back with: the parameters of the address at which it ended."""

    state: str = Field(min_length=1, max_length=500, pattern=r"^[!-~]+$")
    code: SecretStr | None = Field(None, min_length=1, max_length=4_000, description="The code; else `error`.")
    error: str | None = Field(
        None, min_length=1, max_length=500, pattern=r"^[^\x00]*$", description="Why there is none."
    )


class LoginReturnQuery(BaseModel):
    """What a browser brings from the provider, which may add more."""

    state: str = Field("", max_length=500)
    code: str | None = Field(None, max_length=4_000)
    error: str | None = Field(None, max_length=500)


class NewClient(Request):
    """Your own client at a provider, which gets tokens by itself (the grant `client_credentials`)."""

    model_config = ConfigDict(hide_input_in_errors=True)

    provider: Provider = Field(description="One whose `oauth2.client_credentials` is true in `GET /providers`.")
    client_id: Annotated[str, Field(min_length=1, max_length=1_000, pattern=r"^[ -~]+$")]
    client_secret: SecretText
    scopes: Scopes | None = Field(None, description="What to ask for; left out: nothing in particular.")
    title: Name | None = Field(None, description="Left out: the provider's name, or as it is.")
    credential_id: UUID | None = Field(None, description="The credential that gets this client; left out: a new one.")


class TestResult(Reply):
    """What came of trying a credential."""

    __test__ = False  # it is no test case

    ok: bool = Field(description="Whether the provider takes it.")
    detail: str


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
    expires_at: datetime | None = Field(None, description="When it stops working; null: never by itself.")
    token_expires_at: datetime | None = Field(
        None, description="Of OAuth2: when the present access token ends. Before that it is renewed."
    )
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


class OAuth2View(Reply):
    """How one gets tokens of a provider."""

    login: bool = Field(description="By logging in there: `POST /credentials/oauth2/login`.")
    client_credentials: bool = Field(description="With a client of one's own: `POST /credentials/oauth2/client`.")
    scopes: list[str] = Field(description="What a login asks for where it names no scopes.")


class ProviderView(Reply):
    """A provider whose credentials blocks take, or where one can log in."""

    provider: str
    types: list[Kind]
    blocks: list[str] = Field(description="The names of the blocks that take them.")
    system_credential: SystemCredential | None = Field(None, description="The operator's, if there is one.")
    oauth2: OAuth2View | None = Field(None, description="How to get tokens there; null: only by hand.")


class ProviderList(Reply):
    """Providers, by name."""

    items: list[ProviderView]
