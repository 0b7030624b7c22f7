"""Users and their API keys."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Text, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from agentflow.accounts.scopes import Role
from agentflow.table import Table, one_of


class User(Table):
    """Someone who owns graphs and runs."""

    __tablename__ = "users"
    __table_args__ = (CheckConstraint(one_of("role", Role), name="role_known"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    role: Mapped[str] = mapped_column(server_default=Role.MEMBER)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    suspended_at: Mapped[datetime | None]  # since when their keys are refused


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
