"""Renames pins in a graph that had another name in an earlier version of their block.

A block declares the former names of its pins (`BlockSpec.former_inputs`, `former_outputs`). Links and literals with a
former name are changed to the present one, with a warning. Names that the block declares today are never changed.
"""

from collections.abc import Callable, Mapping

from agentflow.errors import Problem
from agentflow.graph.catalogue import BlockSpec, Catalogue
from agentflow.graph.model import Graph, Link, Node
from agentflow.graph.pins import base_name

Tell = Callable[[str, str, str, str], None]
"""Records a renaming: node id, block name, former name, present name."""


def with_present_pins(graph: Graph, catalogue: Catalogue) -> tuple[Graph, list[Problem]]:
    """`graph` and its sub-graphs with the present names of pins, and a warning for each renamed pin."""
    problems: list[Problem] = []
    return _renamed(graph, catalogue, "", problems), problems


def _renamed(graph: Graph, catalogue: Catalogue, prefix: str, problems: list[Problem]) -> Graph:
    def tell(node: str, block: str, former: str, present: str) -> None:
        message = f"{prefix}the pin '{former}' of {block} is called '{present}' today, and was renamed"
        if (problem := Problem(message, node, former, "warning")) not in problems:
            problems.append(problem)

    parts = [_renamed(part, catalogue, f"sub-graph '{part.name or part.id}': ", problems) for part in graph.sub_graphs]
    found = {node.id: catalogue(node.block_id) for node in graph.nodes}
    specs = {id: spec for id, spec in found.items() if spec and (spec.former_inputs or spec.former_outputs)}
    if not specs and all(new is old for new, old in zip(parts, graph.sub_graphs, strict=True)):
        return graph
    nodes = [_node(node, specs, tell) for node in graph.nodes]
    links = {link.ends: link for link in (_link(link, specs, tell) for link in reversed(graph.links))}
    return graph.model_copy(update={"nodes": nodes, "links": list(reversed(links.values())), "sub_graphs": parts})


def _node(node: Node, specs: Mapping[str, BlockSpec], tell: Tell) -> Node:
    spec = specs.get(node.id)
    if spec is None:
        return node
    names = {pin: _present(pin, spec.former_inputs, spec.inputs) for pin in node.input_default}
    former = {pin: name for pin, name in names.items() if name != pin}
    if not former:
        return node
    for pin, name in former.items():
        tell(node.id, spec.name, pin, name)
    # A value under the present name wins. The order of keys is kept, because containers are built in that order.
    given = {names[pin]: value for pin, value in node.input_default.items() if names[pin] not in node.input_default}
    kept = {pin: value for pin, value in node.input_default.items() if pin not in former}
    return node.model_copy(update={"input_default": given | kept})


def _link(link: Link, specs: Mapping[str, BlockSpec], tell: Tell) -> Link:
    source, sink = specs.get(link.source_id), specs.get(link.sink_id)
    source_name, sink_name = link.source_name, link.sink_name
    if source is not None:
        source_name = _present(source_name, source.former_outputs, source.outputs)
        if source_name != link.source_name:
            tell(link.source_id, source.name, link.source_name, source_name)
    if sink is not None:
        sink_name = _present(sink_name, sink.former_inputs, sink.inputs)
        if sink_name != link.sink_name:
            tell(link.sink_id, sink.name, link.sink_name, sink_name)
    if (source_name, sink_name) == (link.source_name, link.sink_name):
        return link
    return link.model_copy(update={"source_name": source_name, "sink_name": sink_name})


def _present(pin: str, former: Mapping[str, str], declared: Mapping[str, object]) -> str:
    name = base_name(pin)
    return pin if name in declared or name not in former else former[name] + pin[len(name) :]
