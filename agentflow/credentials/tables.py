"""The credentials that users have stored."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, false, func, text
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
