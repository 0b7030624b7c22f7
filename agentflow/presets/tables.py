"""Presets."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from agentflow.table import Table


class Preset(Table):
    """What a graph is to be run with."""

    __tablename__ = "presets"
    __table_args__ = (
        Index("presets_owner_idx", "owner_id", text("id DESC")),
        Index("presets_graph_idx", "graph_id", text("id DESC")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    graph_id: Mapped[UUID] = mapped_column(ForeignKey("graphs.id", ondelete="CASCADE"))
    version: Mapped[int | None]  # of the graph; null: the latest
    name: Mapped[str]
    given: Mapped[str]  # JSON text: {inputs, masks, labels, priority}
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
