"""Defines a graph's document: Graph, Node and Link, as they are written, stored and exported.

The models accept what people and other systems really send: exports of AutoGPT's platform, old ones too, with missing,
renamed or null fields, and with unknown fields, which are kept. They check shapes only; `validation` checks the rest.
"""

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from agentflow.graph.json_values import Literals, storable
from agentflow.graph.settings import GraphSettings, NodeSettings
from agentflow.ids import new_id

AGENT_BLOCK: Final = "e189baac-8c20-45a1-94a7-55177ea42565"
"""The block of sub-graph nodes."""

_IDS_LEFT_BLANK: Final = ("id", "graph_id", "webhook_id")
"""Some systems write these as empty texts instead of leaving them out."""

_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"  # PostgreSQL refuses NUL in a text; line breaks would forge log lines

NodeId = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_PRINTABLE)]
Text = Annotated[str, StringConstraints(max_length=100_000, pattern=r"^[^\x00]*$")]
PinName = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=_PRINTABLE)]


def is_pin_name(name: str) -> bool:
    """Whether a link can name such a pin."""
    return re.fullmatch(_PRINTABLE, name) is not None


class _Document(BaseModel):
    """Part of a graph's document."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _tolerate(cls, given: Any) -> Any:
        """Treats null, and an empty id, as a missing field, and makes unknown fields storable."""
        if not isinstance(given, dict):
            return given
        known = {key: value for key, value in given.items() if key in cls.model_fields and value is not None}
        known = {key: value for key, value in known.items() if value != "" or key not in _IDS_LEFT_BLANK}
        return known | {key: storable(value) for key, value in given.items() if key not in cls.model_fields}


class Link(_Document):
    """Carries the values of an output pin of one node, the source, to an input pin of another, the sink."""

    id: str = Field("", max_length=1000)
    source_id: NodeId
    sink_id: NodeId
    source_name: PinName
    sink_name: PinName
    is_static: bool = False

    @property
    def ends(self) -> tuple[str, str, str, str]:
        """Identifies the link: (source_id, source_name, sink_id, sink_name)."""
        return self.source_id, self.source_name, self.sink_id, self.sink_name

    @model_validator(mode="before")
    @classmethod
    def _named_by_its_ends(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("id"):
            return given
        ends = [given.get(key) for key in ("source_id", "source_name", "sink_id", "sink_name")]
        return {**given, "id": "{}.{} → {}.{}".format(*ends)[:1000]}


class Node(_Document):
    """One place in the graph where a block runs, with the values that the document gives it.

    `input_default` maps pins (dynamic ones too) to JSON values; `metadata` is free (`position`, `customized_name`,
    `credentials_optional`). The copies of links that exports repeat in every node (`input_links`, `output_links`) are
    dropped; `schemas.describe` writes them again.
    """

    id: NodeId
    block_id: str = Field(min_length=1, max_length=200)
    input_default: Literals = Field(default_factory=dict)
    metadata: Literals = Field(default_factory=dict)
    webhook_id: str | None = None
    graph_id: UUID | None = None
    graph_version: int | None = None
    settings: NodeSettings = Field(default_factory=NodeSettings)

    @model_validator(mode="before")
    @classmethod
    def _without_copies(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {key: value for key, value in given.items() if key not in ("input_links", "output_links")}

    @property
    def title(self) -> str | None:
        """The name that the author gave it, if any."""
        name = self.metadata.get("customized_name")
        return name if isinstance(name, str) and name.strip() else None


class Graph(_Document):
    """A graph: nodes, links between them, and settings. One (id, version) never changes.

    `sub_graphs` holds the graphs that its sub-graph nodes run, flattened, of all levels. Schemas and flags in an export
    are read as extra fields; `schemas` computes them anew.
    """

    id: UUID = Field(default_factory=new_id)
    version: int = Field(1, ge=1, le=2**31 - 1)
    name: Text = Field("", max_length=1000)
    description: Text = ""
    instructions: Text | None = None
    is_active: bool = True
    nodes: list[Node] = Field(default_factory=list)
    links: list[Link] = Field(default_factory=list)
    sub_graphs: list["Graph"] = Field(default_factory=list)
    settings: GraphSettings = Field(default_factory=GraphSettings)

    @model_validator(mode="before")
    @classmethod
    def _links_from_copies(cls, given: Any) -> Any:
        """Takes the links from their copies in the nodes if the document has none."""
        if not isinstance(given, dict) or given.get("links") is not None or not isinstance(given.get("nodes"), list):
            return given
        lists = [node.get("output_links") for node in given["nodes"] if isinstance(node, dict)]
        return {**given, "links": [link for links in lists if isinstance(links, list) for link in links]}

    @model_validator(mode="before")
    @classmethod
    def _old_name_of_sub_graphs(cls, given: Any) -> Any:
        """`subgraphs` is the former name. In the first half of 2024 it was a dictionary that grouped nodes: ignored."""
        if not isinstance(given, dict) or not isinstance(given.get("subgraphs"), list):
            return given
        rest = {key: value for key, value in given.items() if key != "subgraphs"}
        return {**rest, "sub_graphs": given.get("sub_graphs") or given["subgraphs"]}

    @model_validator(mode="after")
    def _each_link_once(self) -> "Graph":
        distinct = {link.ends: link for link in reversed(self.links)}  # of equal links, the first stays
        if len(distinct) < len(self.links):
            self.links[:] = [link for link in self.links if distinct[link.ends] is link]
        return self

    def parts(self) -> Iterator["Graph"]:
        """The sub-graphs of all levels, in the order of the document."""
        waiting = list(reversed(self.sub_graphs))
        while waiting:
            inner = waiting.pop()
            yield inner
            waiting.extend(reversed(inner.sub_graphs))

    def block_ids(self) -> list[str]:
        """The distinct block ids of its nodes and its sub-graphs' nodes, without unprintable ones."""
        found = {node.block_id for graph in (self, *self.parts()) for node in graph.nodes}
        return sorted(filter(str.isprintable, found))

    def to_json(self) -> str:
        """The document as JSON text in ASCII, which PostgreSQL's `json` type always accepts."""
        return json.dumps(self.model_dump(mode="json"), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads a document written by `to_json` or by others.

        Raises:
            ValueError: `text` is not JSON, or not a graph (then a `pydantic.ValidationError`).
        """
        return cls.model_validate(json.loads(text))
