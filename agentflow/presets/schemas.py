"""Defines requests and replies about presets."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from agentflow.schemas.base import Page, PageQuery, ShortText
from agentflow.schemas.given import ChangedValues, KeptValues, ShownValues


class NewPreset(KeptValues):
    """A preset to save. It need not be complete: a run of it may give the rest."""

    graph_id: UUID
    name: ShortText = Field(min_length=1)


class ChangePreset(ChangedValues):
    """What to change; what is left out stays. Inputs, masks, credentials and labels are replaced as a whole."""

    name: ShortText | None = Field(None, min_length=1)


class PresetView(ShownValues):
    """A preset."""

    id: UUID
    graph_id: UUID
    name: str
    created_at: datetime
    updated_at: datetime


class PresetList(Page):
    """Presets, the newest first."""

    items: list[PresetView]


class PresetListQuery(PageQuery):
    """Which presets to list."""

    graph_id: UUID | None = Field(None, description="Of this graph only.")
