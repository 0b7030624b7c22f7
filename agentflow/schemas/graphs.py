"""Defines requests and replies about graphs."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import ConfigDict, Field, JsonValue, RootModel

from agentflow.schemas.base import Page, Reply, Request
from agentflow.schemas.problems import ProblemPlace

EXAMPLE: dict[str, JsonValue] = {
    "name": "Greet",
    "nodes": [
        {"id": "who", "block_id": "c0a8e994-ebf1-4a9c-a4d8-89d09c86741b", "input_default": {"name": "who"}},
        {"id": "out", "block_id": "363ae599-353e-4804-937e-b2ee3cef3da4", "input_default": {"name": "greeting"}},
    ],
    "links": [{"source_id": "who", "source_name": "result", "sink_id": "out", "sink_name": "value"}],
}


class GraphDocument(RootModel[dict[str, Any]]):
    """A graph: `name`, `description`, `nodes` (`id`, `block_id`, `input_default`), `links` (`source_id`,
    `source_name`, `sink_id`, `sink_name`), `settings`. Exports of AutoGPT are taken as they are."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})


class GraphQuery(Request):
    """Which version of a graph."""

    version: int | None = Field(None, ge=1, le=2**31 - 1, description="null: the latest.")


class SaveQuery(Request):
    """How a document is taken."""

    imported: bool | None = Field(
        None,
        alias="import",
        description="It comes from elsewhere: blocks may be missing, and values that do not fit are warned about. "
        "null: as the document looks.",
    )


class GraphSaved(Reply):
    """A graph was stored. `created` is false where the document was that of the latest version already."""

    id: UUID
    version: int
    name: str
    created: bool = True
    valid: bool = Field(True, description="It can run. False: blocks of it are missing here; `warnings` names them.")
    warnings: list[ProblemPlace] = []


class GraphSummary(Reply):
    """One line of a list of graphs; `version` is the latest."""

    id: UUID
    version: int
    name: str
    description: str
    valid: bool = True
    created_at: datetime
    updated_at: datetime


class GraphList(Page):
    """Graphs, the newest first."""

    items: list[GraphSummary]


class VersionSummary(Reply):
    """One version of a graph."""

    version: int
    digest: str = Field(description="SHA-256 of what the document says; equal documents have equal digests.")
    created_at: datetime


class VersionList(Page):
    """Versions of a graph, the newest first."""

    items: list[VersionSummary]


class GraphInputs(Reply):
    """What a run of a graph takes: a JSON Schema, with a property for each input; `required` names those it needs."""

    input_schema: dict[str, Any]


class ValidationReport(Reply):
    """Everything that is wrong with a graph; `valid` when nothing in it is an error."""

    valid: bool
    problems: list[ProblemPlace]
