"""What blocks keep: memories, and outputs that replace a run of a block for a while."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from agentflow.table import Table


class Memory(Table):
    """What the blocks of a user keep between runs."""

    __tablename__ = "memories"

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]  # JSON text
    updated_at: Mapped[datetime] = mapped_column(server_default=text("agentflow_now()"))


class CachedOutputs(Table):
    """What a block gave for some inputs; good until `expires_at`."""

    __tablename__ = "cached_outputs"
    __table_args__ = (Index("cached_outputs_expires_idx", "expires_at"),)

    owner_id: Mapped[UUID] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(primary_key=True)  # SHA-256 of block and inputs, in hex
    outputs: Mapped[str]  # [[pin, value], …] as JSON text
    expires_at: Mapped[datetime]
