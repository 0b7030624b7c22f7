"""Users, their API keys, how they sign in, and what was done."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from agentflow.accounts.scopes import Role
from agentflow.table import Table, one_of


class User(Table):
    """Someone who owns graphs and runs."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint(one_of("role", Role), name="role_known"),
        CheckConstraint("(password_hash IS NULL) = (sign_in_name IS NULL)", name="password_has_name"),
        Index("users_follow_idx", "follow_at", postgresql_where=text("follow_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    role: Mapped[str] = mapped_column(server_default=Role.MEMBER)
    time_zone: Mapped[str | None]  # its name in the IANA database; null: none was given, and UTC is used
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    suspended_at: Mapped[datetime | None]  # since when their keys are refused
    password_hash: Mapped[str | None]  # argon2id, with its parameters and salt
    sign_in_name: Mapped[str | None] = mapped_column(unique=True)  # the name folded, for users with a password
    deleting_at: Mapped[datetime | None]  # since when they are being deleted, which nothing stops
    follow_at: Mapped[datetime | None]  # when to look at what their suspension, return or deletion has left to do


class ApiKey(Table):
    """A key to the API. The key itself is shown once and not kept."""

    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    prefix: Mapped[str]  # the first characters of the key, by which a person recognises it
    digest: Mapped[str] = mapped_column(unique=True)  # SHA-256 in hex; keys are 256 random bits, so no salt is needed
    scopes: Mapped[list[str] | None] = mapped_column(ARRAY(Text))  # null: all that the user's role has
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]  # to the minute
    suspended_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class UserSession(Table):
    """A person who is signed in at one browser. The cookie's secret itself is not kept."""

    __tablename__ = "sessions"
    __table_args__ = (Index("sessions_user_idx", "user_id", text("id DESC")),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    digest: Mapped[str] = mapped_column(unique=True)  # SHA-256 in hex of the cookie's secret, which is 256 random bits
    source: Mapped[str]  # the address from which they signed in
    agent: Mapped[str]  # what their browser calls itself
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime]  # to the minute
    expires_at: Mapped[datetime]  # its end, however much it is used


class Identity(Table):
    """A user as an OpenID Connect provider knows them."""

    __tablename__ = "identities"

    issuer: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class OidcAttempt(Table):
    """A sign-in that is under way at the provider. It is deleted when its browser returns."""

    __tablename__ = "oidc_attempts"

    digest: Mapped[str] = mapped_column(primary_key=True)  # SHA-256 in hex of its state
    nonce: Mapped[str]
    verifier: Mapped[str]  # of PKCE
    page: Mapped[str | None]  # the path to show afterwards
    expires_at: Mapped[datetime] = mapped_column(index=True)


class AuditEntry(Table):
    """Who did what, or tried to. Rows are added and never changed: a trigger (migration 0019) refuses it."""

    __tablename__ = "audit_entries"
    __table_args__ = (Index("audit_entries_user_idx", "user_id", text("id DESC")),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    user_id: Mapped[UUID | None]  # without a foreign key: the entry outlives the user
    key_id: Mapped[UUID | None]
    session_id: Mapped[UUID | None]  # of a person who was signed in
    source: Mapped[str]  # the address of the client, or `command line`
    action: Mapped[str]  # the operation's name in the OpenAPI document
    target: Mapped[str | None]  # the id of what it was done to
    status: Mapped[int | None] = mapped_column(SmallInteger)  # the HTTP status of a refusal; null: it was done
    reason: Mapped[str | None]  # of a refusal
