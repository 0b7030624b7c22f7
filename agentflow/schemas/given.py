"""Defines what everything has that keeps what runs are given: presets, schedules, triggers."""

from typing import Any

from pydantic import Field, field_validator

from agentflow.graph.json_values import only_a_number
from agentflow.schemas.base import Inputs, Reply, Request
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
