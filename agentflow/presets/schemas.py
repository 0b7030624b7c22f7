"""Defines requests and replies about presets, and what everything has that keeps what a run is to be given."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field, field_validator

from agentflow.graph.json_values import only_a_number
from agentflow.schemas.base import Inputs, Page, PageQuery, Reply, Request, ShortText
from agentflow.schemas.runs import ChosenCredentials, Labels, Masks


class KeptValues(Request):
    """What a run is to be given."""

    version: int | None = Field(None, ge=1, le=2**31 - 1, description="Of the graph; null: always the latest.")
    inputs: Inputs = Field(default_factory=dict, description="Values of input nodes, by their `name`.")
    nodes_input_masks: Masks = Field(
        default_factory=dict, description="{node id: {pin: value}}: overwrites what the pins would get."
    )
    credentials: ChosenCredentials = Field(
        default_factory=dict, description="Keys of the graph's `credentials_input_schema`, each with a credential's id."
    )
    labels: Labels = Field(default_factory=dict)
    priority: int | None = Field(None, ge=0, le=9, description="9 is the most urgent; null: the graph's, or 5.")

    _numbers = field_validator("priority", "version", mode="before")(only_a_number)


class ChangedValues(Request):
    """What a run is to be given otherwise. Inputs, masks, credentials and labels are replaced as a whole."""

    version: int | None = Field(None, ge=1, le=2**31 - 1, description="null: always the latest.")
    inputs: Inputs | None = None
    nodes_input_masks: Masks | None = None
    credentials: ChosenCredentials | None = None
    labels: Labels | None = None
    priority: int | None = Field(None, ge=0, le=9, description="null: the graph's, or 5.")

    _numbers = field_validator("priority", "version", mode="before")(only_a_number)


class ShownValues(Reply):
    """What a run is to be given, without its secrets."""

    version: int | None = Field(None, description="null: the latest.")
    inputs: dict[str, Any] = {}
    nodes_input_masks: dict[str, dict[str, Any]] = {}
    credentials: dict[str, dict[str, str]] = {}
    labels: dict[str, str] = {}
    priority: int | None = None


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
