"""What moderation refused, where the operator keeps it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from agentflow.table import Table


class RefusedText(Table):
    """What was withheld from everybody else: admins see it here."""

    __tablename__ = "refused_texts"
    __table_args__ = (
        Index("refused_texts_owner_idx", "owner_id", text("id DESC")),
        # A node execution that is lost after the refusal is refused again.
        Index("refused_texts_run_key", "run_id", "node_id", unique=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    run_id: Mapped[UUID]
    node_id: Mapped[str] = mapped_column(server_default="")  # the output node that was to give it; "": what the run got
    categories: Mapped[list[str]] = mapped_column(ARRAY(Text()))
    reason: Mapped[str | None]
    content: Mapped[str]  # JSON text
