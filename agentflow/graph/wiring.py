"""Looks up the pins and links of each node: the view of a graph that its checks share.

It tolerates wrong graphs. As in the plan, links with a missing end, or to or from a note, are left out; nodes with an
unknown block have no pins. `validation` reports such faults.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

from agentflow.graph.catalogue import ERROR_PIN, BlockKind, BlockSpec, Catalogue, PinSpec
from agentflow.graph.feedback import feedback_pins
from agentflow.graph.model import Graph, Link, Node
from agentflow.graph.pins import enclosing
from agentflow.graph.scoped_masks import Masks as Masks
from agentflow.graph.scoped_masks import masks_of

SUB_GRAPH_PINS: Final = frozenset(
    {"user_id", "graph_id", "graph_version", "agent_name", "inputs", "input_schema", "output_schema"}
    | {"nodes_input_masks"}
)
"""The pins of a sub-graph node itself. Every other pin is an input of its graph. These names are inputs of its graph
too where a link brings a value, or where a mask does and the graph has such an input: authors name inputs freely."""


def is_masked(pin: str, masked: Collection[str]) -> bool:
    """Whether masks on the pins `masked` of a node set `pin`. A mask on a container sets everything inside it."""
    return bool(masked) and any(name in masked for name in enclosing(pin))


@dataclass(frozen=True, slots=True)
class Wiring:
    """A graph, indexed by node.

    Attributes:
        nodes: node id → node; if two nodes share an id, the first.
        specs: node id → block, for nodes with a known block.
        linked: node id → the pins that wait for a link, as written; masked pins do not wait.
        links: the links that can carry values: both ends exist, and neither is a note.
        masks: the run's input masks, as they count in this graph.
        feedback: node id → linked pins that the first execution does not wait for; nodes without any are left out.
    """

    nodes: Mapping[str, Node]
    specs: Mapping[str, BlockSpec]
    linked: Mapping[str, set[str]]
    links: tuple[Link, ...]
    masks: Masks
    feedback: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, graph: Graph, catalogue: Catalogue, masks: Masks | None = None) -> Self:
        masks = masks_of(graph.id, masks or {})
        nodes: dict[str, Node] = {}
        for node in graph.nodes:
            nodes.setdefault(node.id, node)
        found = {id: catalogue(node.block_id) for id, node in nodes.items()}
        specs = {id: spec for id, spec in found.items() if spec}
        notes = {id for id, spec in specs.items() if spec.kind is BlockKind.NOTE}
        ends = nodes.keys() - notes
        links = tuple(link for link in graph.links if link.source_id in ends and link.sink_id in ends)
        linked: dict[str, set[str]] = {node: set() for node in nodes}
        for link in links:
            if not is_masked(link.sink_name, masks.get(link.sink_id, ())):
                linked[link.sink_id].add(link.sink_name)
        declared = {id: spec.feedback for id, spec in specs.items()}
        feedback = feedback_pins(declared, ((link.source_id, link.sink_id, link.sink_name) for link in links))
        return cls(nodes, specs, linked, links, masks, feedback)

    def kind(self, node_id: str) -> BlockKind | None:
        """The kind of the node's block; None if the block is unknown."""
        spec = self.specs.get(node_id)
        return spec.kind if spec else None

    def starts(self, node_id: str) -> bool:
        """Whether the node is a starting node."""
        kind = self.kind(node_id)
        waits = self.linked[node_id] - set(self.feedback.get(node_id, ()))
        return kind is BlockKind.INPUT or (kind is not BlockKind.NOTE and not waits)


def with_static_links(graph: Graph, catalogue: Catalogue) -> Graph:
    """`graph` and its sub-graphs with every link from a static-output block marked as static."""
    found = {node.id: catalogue(node.block_id) for node in graph.nodes}
    static = {id for id, spec in found.items() if spec is not None and spec.static_output}
    links = [
        link.model_copy(update={"is_static": True}) if link.source_id in static and not link.is_static else link
        for link in graph.links
    ]
    parts = [with_static_links(part, catalogue) for part in graph.sub_graphs]
    return graph.model_copy(update={"links": links, "sub_graphs": parts})


def input_pins(node: Node, spec: BlockSpec) -> Mapping[str, PinSpec]:
    """The pins that links may lead to: the block's, or for a sub-graph node those of its `input_schema`."""
    return schema_pins(node, "input_schema") if spec.kind is BlockKind.AGENT else spec.inputs


def output_pins(node: Node, spec: BlockSpec) -> Mapping[str, PinSpec]:
    """The pins that links may leave from: the block's, or for a sub-graph node its `output_schema`'s and `error`."""
    if spec.kind is not BlockKind.AGENT:
        return spec.outputs
    return {ERROR_PIN: PinSpec(ERROR_PIN, str), **schema_pins(node, "output_schema")}


class HasLiterals(Protocol):
    """A node of a document, or of a plan."""

    @property
    def block_id(self) -> str: ...
    @property
    def input_default(self) -> dict[str, Any]: ...


def schema_pins(node: HasLiterals, key: str) -> dict[str, PinSpec]:
    """The pins that the JSON Schema in `node.input_default[key]` describes; none if it is not a schema."""
    schema = node.input_default.get(key)
    required = schema.get("required") if isinstance(schema, dict) else None
    names = required if isinstance(required, list) else []
    return {
        name: PinSpec(name, required=name in names, schema=entry if isinstance(entry, dict) else {})
        for name, entry in schema_properties(node.input_default, key).items()
    }


def schema_properties(literals: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Name → schema of each property of the JSON Schema in `literals[key]`; empty if it is not a schema."""
    schema = literals.get(key)
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return properties if isinstance(properties, dict) else {}
