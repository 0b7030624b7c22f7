"""The credentials that users have stored."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, false, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from agentflow.credentials.kinds import STORED_STATES, Kind, State
from agentflow.table import Table, one_of


class StoredCredential(Table):
    """A user's credential. Its secret is encrypted, and bound to other columns (`encryption.Bound`)."""

    __tablename__ = "credentials"
    __table_args__ = (
        CheckConstraint(one_of("kind", Kind), name="kind_known"),
        CheckConstraint(one_of("state", STORED_STATES), name="state_known"),
        Index("credentials_owner_idx", "owner_id", text("id DESC")),
        Index("credentials_exclusive_idx", "owner_id", postgresql_where=text("exclusive")),
        Index("credentials_expires_idx", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    provider: Mapped[str]  # in lower case
    kind: Mapped[str]  # Kind
    title: Mapped[str]
    details: Mapped[dict[str, Any]]  # what its owner may see of it: user name, host, names of headers, …
    secret: Mapped[bytes] = mapped_column(LargeBinary)  # encrypted
    key_id: Mapped[str]  # the key of the ring that encrypted it
    state: Mapped[str] = mapped_column(server_default=State.VALID)  # of `State`, those that do not follow from the time
    exclusive: Mapped[bool] = mapped_column(server_default=false())  # one node execution at a time may use it
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_used_at: Mapped[datetime | None]  # to the minute
    expires_at: Mapped[datetime | None]
    generation: Mapped[int] = mapped_column(server_default=text("0"))  # of the secret: one more with each new one
    # Of OAuth2 only. `expires_at` is then the end of the credential, and these are about its access token.
    token_expires_at: Mapped[datetime | None]  # null: never, or nobody knows
    renew_at: Mapped[datetime | None]  # when the token is due for another; null: it is never renewed
    renewing: Mapped[UUID | None]  # who renews it now: a random lease token
    renewing_until: Mapped[datetime | None]  # until when nobody else does; after a failure also without `renewing`


class OAuth2Login(Table):
    """A user who is on their way to a provider and back. It is deleted when they return."""

    __tablename__ = "oauth2_logins"

    digest: Mapped[str] = mapped_column(primary_key=True)  # SHA-256 in hex of its state
    id: Mapped[UUID]  # which its secret is bound to
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    provider: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(JSONB)  # what is asked for
    title: Mapped[str | None]
    credential_id: Mapped[UUID | None]  # the credential that is authorised again; null: a new one
    secret: Mapped[bytes] = mapped_column(LargeBinary)  # the verifier of PKCE, encrypted
    key_id: Mapped[str]
    expires_at: Mapped[datetime] = mapped_column(index=True)
