"""Finds the nodes and pins that a run's input masks name and that do not exist.

Child runs inherit the masks of their parents, and a block may start a run of any graph. A node that none of the known
graphs has is therefore only warned about; a pin that its node lacks is an error.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from agentflow.errors import Problem
from agentflow.graph.catalogue import BlockKind, Catalogue
from agentflow.graph.model import Graph, Node
from agentflow.graph.pins import declared_name
from agentflow.graph.scoped_masks import scoped
from agentflow.graph.wiring import input_pins


def unknown_names(
    graphs: Collection[Graph], catalogue: Catalogue, masks: Mapping[str, Mapping[str, Any]]
) -> Iterator[Problem]:
    """An error for each pin that its node lacks, a warning for each node that none of `graphs` has.

    Args:
        graphs: the run's graph and its sub-graphs. If several have a node with the same id, the mask may mean any.
        catalogue: the blocks.
        masks: {node id: {pin: value}}; the id may be that of one graph's node only (`scoped_masks`).
    """
    found: dict[str, list[Node]] = {}
    for graph in graphs:
        for node in graph.nodes:
            found.setdefault(node.id, []).append(node)
            found.setdefault(scoped(graph.id, node.id), []).append(node)
    for id, pins in masks.items():
        nodes = found.get(id, [])
        if not nodes:
            yield Problem("an input mask names this node, which no graph of this run has", id, severity="warning")
        for pin in pins if nodes else ():
            if not any(_has_pin(node, pin, catalogue) for node in nodes):
                spec = catalogue(nodes[0].block_id)
                name = spec.name if spec is not None else nodes[0].block_id
                yield Problem(f"a value is given for the pin '{pin}', which {name} lacks", id, pin)


def _has_pin(node: Node, pin: str, catalogue: Catalogue) -> bool:
    spec = catalogue(node.block_id)
    if spec is None:
        return True  # the missing block is reported elsewhere
    own = input_pins(node, spec)
    if spec.kind is BlockKind.AGENT and not own:  # the node does not say which inputs its graph takes
        return True
    name = declared_name(pin, own)
    return name in own or name in spec.inputs
