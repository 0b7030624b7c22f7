"""Defines requests and replies about users and API keys."""

from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from pydantic import BaseModel, Field, StrictBool

from agentflow.accounts.scopes import Role, Scope
from agentflow.clock import now
from agentflow.schemas.base import Moment, Page, PageQuery, Reply, Request, TimeZone

Name = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$")
]
"""A name of one line that is not blank."""


class UserView(Reply):
    """Someone who owns graphs and runs."""

    id: UUID
    name: str
    role: Role
    time_zone: str | None = Field(None, description="Null: none was given, and UTC is used.")
    created_at: datetime
    suspended_at: datetime | None = None
    deleting_at: datetime | None = Field(None, description="Since when the user is being deleted.")


class UserList(Page):
    """Users, the newest first."""

    items: list[UserView]


class NewUser(Request):
    """A user to be."""

    name: Name
    role: Role = Role.MEMBER


class ChangeMe(Request):
    """What is to be another."""

    time_zone: TimeZone | None = Field(description="Such as Europe/Paris; null: none, and UTC is used.")


class ChangeUser(Request):
    """What is to be another. What is left out stays."""

    role: Role | None = None
    time_zone: TimeZone | None = Field(None, description="Null: none, and UTC is used.")
    suspended: StrictBool | None = Field(
        None, description="While it is true, all keys of the user are refused, and their runs pause."
    )


SHORTEST_PASSWORD: Final = 10
"""Characters of a new password, at least."""

LONGEST_PASSWORD: Final = 1_000
"""Characters of a password, at most: each costs a little of a hash."""

Password = Annotated[str, Field(min_length=SHORTEST_PASSWORD, max_length=LONGEST_PASSWORD)]
"""A password to be."""

GivenPassword = Annotated[str, Field(min_length=1, max_length=LONGEST_PASSWORD)]
"""A password that somebody has."""


class SetPassword(Request):
    """A user's password to be."""

    password: Password


class ChangePassword(Request):
    """One's own password to be, and the present one."""

    old: GivenPassword
    new: Password


class SignIn(Request):
    """Who somebody is."""

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
    password: GivenPassword


class LinkUser(Request):
    """How a user signs in through OpenID Connect."""

    subject: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[!-~]+$")] | None = Field(
        description="Whom the provider's tokens call the user (`sub`); null: they cannot sign in through it."
    )


class OidcQuery(Request):
    """Where to go afterwards."""

    page: str | None = Field(
        None,
        max_length=1000,
        pattern=r"^/([!-.0-\[\]-~][!-~]*)?$",
        description="The path of this site to show then; left out: the new session, as JSON.",
    )


class OidcReturnQuery(BaseModel):
    """What a browser brings from the provider, which may add more."""

    state: str = Field("", max_length=500)
    code: str | None = Field(None, max_length=4_000)
    iss: str | None = Field(None, max_length=1_000, description="The provider, where it says so (RFC 9207).")
    error: str | None = Field(None, max_length=500)
    error_description: str | None = Field(None, max_length=2_000)


class SessionView(Reply):
    """A person who is signed in at one browser."""

    id: UUID
    user_id: UUID
    source: str = Field(description="The address from which they signed in.")
    agent: str = Field(description="What their browser calls itself.")
    created_at: datetime
    last_used_at: datetime = Field(description="To the minute.")
    expires_at: datetime = Field(description="Its end, however much it is used.")


class SessionMade(SessionView):
    """A new session. Its secret is in the cookie."""

    csrf_token: str = Field(description="What every changing request with the cookie brings as `X-CSRF-Token`.")


class SessionList(Page):
    """Sessions that have not ended, the newest first."""

    items: list[SessionView]


class SessionListQuery(PageQuery):
    """Whose sessions."""

    user_id: UUID | None = Field(None, description="For admins: another user's; left out: your own.")


class KeyView(Reply):
    """An API key, without the key itself."""

    id: UUID
    owner_id: UUID
    name: str
    prefix: str = Field(description="The first characters of the key.")
    scopes: list[Scope] | None = Field(None, description="Null: all that its user's role has.")
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = Field(None, description="To the minute.")
    suspended_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def state(self) -> str:
        """In a word: valid, expired, suspended or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        if self.suspended_at is not None:
            return "suspended"
        return "expired" if self.expires_at is not None and self.expires_at <= now() else "valid"


class KeyMade(KeyView):
    """A new API key. `key` is shown this once."""

    key: str


class KeyList(Page):
    """API keys, revoked ones too, the newest first."""

    items: list[KeyView]


class KeyListQuery(PageQuery):
    """Whose keys."""

    user_id: UUID | None = Field(None, description="For admins: another user's; left out: your own.")


class NewKey(Request):
    """An API key to be."""

    name: Name
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))] | None = Field(
        None, description="Left out: those of the key that makes it."
    )
    expires_at: Moment | None = Field(None, description="When it stops working; left out: never.")
    user_id: UUID | None = Field(None, description="For admins: whose it is to be; left out: your own.")


class ChangeKey(Request):
    """What is to be another."""

    suspended: StrictBool = Field(description="While it is true, the key is refused.")


class AuditEntryView(Reply):
    """Something that somebody did, or tried to do."""

    id: UUID
    at: datetime
    user_id: UUID | None = None
    key_id: UUID | None = Field(None, description="The API key with which it was done.")
    session_id: UUID | None = Field(None, description="The session with which it was done.")
    source: str = Field(description="The address of the client, or `command line`.")
    action: str = Field(description="The operation, as this document names it.")
    target: str | None = Field(None, description="The id of what it was done to.")
    status: int | None = Field(None, description="The HTTP status of a refusal; null: it was done.")
    reason: str | None = Field(None, description="Of a refusal.")


class AuditList(Page):
    """Audit entries, the newest first."""

    items: list[AuditEntryView]


class AuditQuery(PageQuery):
    """Whose entries."""

    user_id: UUID | None = Field(None, description="Left out: everybody's for an admin, else your own.")


class Me(Reply):
    """Who the caller is, and what they may do."""

    user: UserView
    key_id: UUID | None = Field(None, description="Null: it is a session.")
    session_id: UUID | None = Field(None, description="Null: it is a key.")
    scopes: list[Scope]
    expires_at: datetime | None = None
    csrf_token: str | None = Field(
        None, description="Of a session: what every changing request with the cookie brings as `X-CSRF-Token`."
    )
