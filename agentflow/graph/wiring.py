"""Which pins does each node have, and which of them are linked? The view of a graph that its checks share.

It tolerates graphs that are wrong: links with a missing end or at a note are left out, as the plan does, and nodes
with an unknown block have no pins. What is wrong is reported by `validation`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

from agentflow.graph.catalogue import ERROR_PIN, BlockKind, BlockSpec, Catalogue, PinSpec
from agentflow.graph.feedback import feedback_pins
from agentflow.graph.model import Graph, Link, Node
from agentflow.graph.pins import enclosing

SUB_GRAPH_PINS: Final = frozenset(
    {"user_id", "graph_id", "graph_version", "agent_name", "inputs", "input_schema", "output_schema"}
    | {"nodes_input_masks"}
)
"""What a sub-graph node is told in its literals. Whatever else comes to it is an input of its graph, and so are these
where a link brings them, or a mask that the graph has an input for: people name those as they like."""

Masks = Mapping[str, Mapping[str, Any]]
"""{node id: {pin: value}}: what overwrites the inputs of nodes in one run."""


def is_masked(pin: str, masked: Collection[str]) -> bool:
    """Whether masks on the pins `masked` of a node say what is at `pin`. On a container one says all that is in it."""
    return bool(masked) and any(name in masked for name in enclosing(pin))


@dataclass(frozen=True, slots=True)
class Wiring:
    """A graph, looked up by node.

    Attributes:
        nodes: by id; of two nodes with one id, the first.
        specs: the blocks of those nodes whose block is known.
        linked: the pins of each node that wait for a link, as written; masked ones do not wait.
        links: those links that can carry something: both ends exist, neither is a note.
        masks: the run's input masks.
        feedback: the pins that the first execution of a node does not wait for although they are linked; nodes without
            any are left out.
    """

    nodes: Mapping[str, Node]
    specs: Mapping[str, BlockSpec]
    linked: Mapping[str, set[str]]
    links: tuple[Link, ...]
    masks: Masks
    feedback: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, graph: Graph, catalogue: Catalogue, masks: Masks | None = None) -> Self:
        masks = masks or {}
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
        """The sort of the node's block; None if there is no such block."""
        spec = self.specs.get(node_id)
        return spec.kind if spec else None

    def starts(self, node_id: str) -> bool:
        """Whether the node is a starting node."""
        kind = self.kind(node_id)
        waits = self.linked[node_id] - set(self.feedback.get(node_id, ()))
        return kind is BlockKind.INPUT or (kind is not BlockKind.NOTE and not waits)


def with_static_links(graph: Graph, catalogue: Catalogue) -> Graph:
    """`graph` with every link out of a static-output block marked as static, in its parts too."""
    found = {node.id: catalogue(node.block_id) for node in graph.nodes}
    static = {id for id, spec in found.items() if spec is not None and spec.static_output}
    links = [
        link.model_copy(update={"is_static": True}) if link.source_id in static and not link.is_static else link
        for link in graph.links
    ]
    parts = [with_static_links(part, catalogue) for part in graph.sub_graphs]
    return graph.model_copy(update={"links": links, "sub_graphs": parts})


def input_pins(node: Node, spec: BlockSpec) -> Mapping[str, PinSpec]:
    """The pins that links may lead to: the block's; for a sub-graph node, those of its own input schema."""
    return schema_pins(node, "input_schema") if spec.kind is BlockKind.AGENT else spec.inputs


def output_pins(node: Node, spec: BlockSpec) -> Mapping[str, PinSpec]:
    """The pins that links may leave from; for a sub-graph node, those of its own output schema, and `error`."""
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
    """The pins that the JSON Schema in `node.input_default[key]` describes; none where it is not one."""
    schema = node.input_default.get(key)
    required = schema.get("required") if isinstance(schema, dict) else None
    names = required if isinstance(required, list) else []
    return {
        name: PinSpec(name, required=name in names, schema=entry if isinstance(entry, dict) else {})
        for name, entry in schema_properties(node.input_default, key).items()
    }


def schema_properties(literals: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """What the JSON Schema in `literals[key]` of a sub-graph node says of each name; nothing where it is not one."""
    schema = literals.get(key)
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return properties if isinstance(properties, dict) else {}
