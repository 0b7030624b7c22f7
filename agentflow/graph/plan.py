"""Compiles a graph version into a plan: everything that workers need, so that they never read the document.

A plan is compiled once per graph version and stored. Nodes and links are numbered by their positions in the document,
which never change for a version. The plan says which pins each node waits for, where its outputs go, and which
settings apply. It holds no state of a run and must not be changed by its readers: processes share it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self
from uuid import UUID

from agentflow.errors import GraphInvalid, Problem
from agentflow.forking import lazy
from agentflow.graph.catalogue import ERROR_PIN, BlockKind, BlockSpec, Catalogue
from agentflow.graph.feedback import feedback_pins
from agentflow.graph.model import Graph, Link, Node
from agentflow.graph.pins import base_name, is_tool_pin, tool_pin
from agentflow.graph.plan_node import PlanLink, PlanNode, node_of, node_row
from agentflow.graph.scoped_masks import masks_of
from agentflow.graph.settings import GraphSettings, NodeSettings, effective
from agentflow.graph.wiring import is_masked

__all__ = ["FORMAT", "Plan", "PlanLink", "PlanNode", "compile_plan"]

FORMAT: Final = 4
"""Version of the stored form. Readers of another version must compile again."""


@dataclass(frozen=True)
class Plan:
    """A compiled graph version."""

    graph_id: UUID
    version: int
    settings: GraphSettings
    nodes: tuple[PlanNode, ...]

    @lazy
    def _by_id(self) -> dict[str, PlanNode]:
        return {node.id: node for node in self.nodes}

    @lazy
    def inputs(self) -> Mapping[str, tuple[PlanNode, ...]]:
        """External name → input nodes."""
        return self._named(BlockKind.INPUT)

    @lazy
    def outputs(self) -> Mapping[str, tuple[PlanNode, ...]]:
        """External name → output nodes."""
        return self._named(BlockKind.OUTPUT)

    def _named(self, kind: BlockKind) -> Mapping[str, tuple[PlanNode, ...]]:
        found: dict[str, tuple[PlanNode, ...]] = {}
        for node in self.nodes:
            if node.kind is kind and node.name is not None:
                found[node.name] = (*found.get(node.name, ()), node)
        return found

    @lazy
    def gathering(self) -> tuple[PlanNode, ...]:
        """The nodes that gather values into lists."""
        return tuple(node for node in self.nodes if node.gathers is not None)

    def downstream(self, number: int) -> set[int]:
        """The numbers of the nodes that values of this node can reach, itself included."""
        reached, waiting = {number}, [number]
        while waiting:
            for link in self.nodes[waiting.pop()].links:
                if link.sink not in reached:
                    reached.add(link.sink)
                    waiting.append(link.sink)
        return reached

    def iterated(self, gather: PlanNode) -> set[int]:
        """The numbers of the `for_each` nodes whose items, directly or processed, end up in the lists of `gather`."""
        into: dict[int, list[PlanLink]] = {}
        for node in self.nodes:
            for link in node.links:
                into.setdefault(link.sink, []).append(link)
        found: set[int] = set()
        seen: set[int] = set()
        waiting = [link for link in into.get(gather.number, ()) if link.sink_pin == gather.gathers]
        while waiting:
            link = waiting.pop()
            if base_name(link.source_pin) in self.nodes[link.source].for_each:
                found.add(link.source)
            if link.source not in seen:
                seen.add(link.source)
                waiting += into.get(link.source, ())
        return found

    def node(self, node_id: str) -> PlanNode:
        """The node with that id.

        Raises:
            KeyError: there is none.
        """
        return self._by_id[node_id]

    def starting(self) -> tuple[PlanNode, ...]:
        """The nodes that are QUEUED when the run starts, in the order of the document."""
        return tuple(node for node in self.nodes if node.starts)

    def primed(self) -> tuple[PlanNode, ...]:
        """The nodes with feedback pins that do not start: their first execution waits for fewer pins than the rest."""
        return tuple(node for node in self.nodes if node.feedback and not node.starts)

    def masked(self, masks: Mapping[str, Mapping[str, Any]]) -> "Plan":
        """The plan of a run with input masks: {node id: {pin: value}}, perhaps of one graph only (`scoped_masks`).

        A masked pin is not waited for and gets no deliveries, nor do the pins inside it (`values_#_a` if `values` is
        masked). A node whose linked pins are all masked starts. Unknown ids and pins are ignored, because child runs
        inherit their parents' masks. A failure whose error link leads to a masked pin stays handled.
        """
        own = masks_of(self.graph_id, masks)
        named = [(self._by_id[node], pins) for node, pins in own.items() if node in self._by_id]
        hidden = {(node.number, pin) for node, masked in named for pin in node.pins if is_masked(pin, masked)}
        if not hidden:
            return self
        return replace(self, nodes=tuple(_masked(node, hidden) for node in self.nodes))

    def to_json(self) -> str:
        """The stored form: JSON text in ASCII, with equal settings written once."""
        table: dict[str, int] = {}
        nodes = [node_row(node, table) for node in self.nodes]
        content = {
            "format": FORMAT,
            "graph_id": str(self.graph_id),
            "version": self.version,
            "settings": self.settings.model_dump(mode="json"),
            "node_settings": [json.loads(text) for text in table],
            "nodes": nodes,
        }
        return json.dumps(content, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads the plan that `to_json` wrote.

        Raises:
            ValueError: `text` is no plan, or one of another format.
        """
        content = json.loads(text)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"this is no plan of format {FORMAT}")
        try:
            settings = [NodeSettings.model_validate(row) for row in content["node_settings"]]
            return cls(
                graph_id=UUID(content["graph_id"]),
                version=content["version"],
                settings=GraphSettings.model_validate(content["settings"]),
                nodes=tuple(node_of(number, row, settings) for number, row in enumerate(content["nodes"])),
            )
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"this plan is damaged: {error!r}") from error


@dataclass(slots=True)
class _Linked:
    """What the links say of one node; the fields are those of `PlanNode`."""

    feedback: tuple[str, ...]
    pins: dict[str, bool] = field(default_factory=dict)
    links: list[PlanLink] = field(default_factory=list)


def compile_plan(graph: Graph, catalogue: Catalogue) -> Plan:
    """Compiles a valid graph, in time proportional to its nodes and links.

    Links out of a static-output block become static; links to or from a note are left out.

    Raises:
        GraphInvalid: a block or a link's end does not exist; `validation.validate` reports this and more.
    """
    specs = [_spec(node, catalogue) for node in graph.nodes]
    numbers = {node.id: number for number, node in enumerate(graph.nodes)}
    links = [_compile_link(number, link, numbers, specs) for number, link in enumerate(graph.links)]
    links = [link for link in links if BlockKind.NOTE not in (specs[link.source].kind, specs[link.sink].kind)]
    declared = {number: spec.feedback for number, spec in enumerate(specs)}
    feedback = feedback_pins(declared, ((link.source, link.sink, link.sink_pin) for link in links))
    linked = [_Linked(feedback.get(number, ())) for number in range(len(specs))]
    for link in links:
        if link.static and link.sink_pin in linked[link.sink].feedback:
            link = replace(link, static=False)
        linked[link.source].links.append(link)
        pins = linked[link.sink].pins
        pins[link.sink_pin] = pins.get(link.sink_pin, False) or link.static
    inherited = effective(graph.settings, NodeSettings())  # shared by all nodes without settings
    nodes = tuple(
        _compile_node(number, node, spec, _settings(graph, node, spec, inherited), linked[number])
        for number, (node, spec) in enumerate(zip(graph.nodes, specs, strict=True))
    )
    return Plan(graph.id, graph.version, graph.settings, nodes)


def _compile_link(number: int, link: Link, numbers: Mapping[str, int], specs: list[BlockSpec]) -> PlanLink:
    for end in (link.source_id, link.sink_id):
        if end not in numbers:
            raise GraphInvalid(problems=[Problem(f"link {link.id}: node '{end}' is not in the graph", end)])
    source = numbers[link.source_id]
    tool = is_tool_pin(link.source_name) and specs[source].kind is not BlockKind.AGENT  # its outputs have any names
    pin = tool_pin(link.sink_id, link.sink_name) if tool else link.source_name
    static = link.is_static or specs[source].static_output
    return PlanLink(number, source, pin, numbers[link.sink_id], link.sink_name, static)


def _compile_node(number: int, node: Node, spec: BlockSpec, settings: NodeSettings, linked: _Linked) -> PlanNode:
    name = node.input_default.get("name")
    return PlanNode(
        number=number,
        id=node.id,
        block_id=node.block_id,
        block_name=spec.name,
        kind=spec.kind,
        title=node.title or spec.name,
        input_default=node.input_default,
        settings=settings,
        pins=linked.pins,
        base=_base(spec.kind, linked.pins),
        links=tuple(linked.links),
        handles_errors=any(base_name(link.source_pin) == ERROR_PIN for link in linked.links),
        starts=_starts(spec.kind, linked.pins, linked.feedback),
        name=name if spec.kind in (BlockKind.INPUT, BlockKind.OUTPUT) and isinstance(name, str) else None,
        lane=settings.queue or spec.lane,
        timeout=settings.timeout or spec.timeout,
        gathers=spec.gathers,
        for_each=spec.for_each,
        feedback=linked.feedback,
        credentials_optional=bool(node.metadata.get("credentials_optional")),
    )


def _settings(graph: Graph, node: Node, spec: BlockSpec, inherited: NodeSettings) -> NodeSettings:
    """The node's effective settings, with the block's retry policy if neither the node nor the graph has one."""
    settings = effective(graph.settings, node.settings) if node.settings.model_fields_set else inherited
    if spec.retry is None or "retry" in node.settings.model_fields_set | graph.settings.model_fields_set:
        return settings
    return settings.model_copy(update={"retry": spec.retry})


def _spec(node: Node, catalogue: Catalogue) -> BlockSpec:
    spec = catalogue(node.block_id)
    if spec is None:
        raise GraphInvalid(problems=[Problem(f"there is no block {node.block_id}", node.id)])
    return spec


def _starts(kind: BlockKind, pins: Mapping[str, bool], feedback: tuple[str, ...]) -> bool:
    return kind is BlockKind.INPUT or (kind is not BlockKind.NOTE and len(pins) == len(feedback))


def _base(kind: BlockKind, pins: Mapping[str, bool]) -> int:
    return 2 if kind is BlockKind.INPUT and pins else 1


def _masked(node: PlanNode, hidden: set[tuple[int, str]]) -> PlanNode:
    pins = {pin: static for pin, static in node.pins.items() if (node.number, pin) not in hidden}
    links = tuple(link for link in node.links if (link.sink, link.sink_pin) not in hidden)
    if len(pins) == len(node.pins) and len(links) == len(node.links):
        return node
    feedback = tuple(pin for pin in node.feedback if pin in pins)
    starts, base = _starts(node.kind, pins, feedback), _base(node.kind, pins)
    return replace(node, pins=pins, links=links, feedback=feedback, starts=starts, base=base)
