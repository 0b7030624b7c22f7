"""Defines requests and replies about what moderation refused."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from agentflow.schemas.base import Page, PageQuery, Reply


class RefusedTextView(Reply):
    """What moderation refused, and nobody but admins sees."""

    id: UUID
    at: datetime
    user_id: UUID = Field(description="Whose run it was.")
    run_id: UUID
    node_id: str | None = Field(None, description="The output node that was to give it; null: the run was given it.")
    categories: list[str]
    reason: str | None = None
    content: Any = Field(description="Of a run: its `inputs`, and what its `nodes` got by masks and literals.")


class RefusedTextList(Page):
    """What was refused, the newest first."""

    items: list[RefusedTextView]


class RefusedTextsQuery(PageQuery):
    """Whose."""

    user_id: UUID | None = Field(None, description="Of one user; left out: of all.")
