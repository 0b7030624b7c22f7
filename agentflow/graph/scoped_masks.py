"""Tells the masks of one graph from those of all graphs of a run.

Child runs inherit masks, and two graphs may have nodes of the same id: copies of a graph do. A mask under a node id is
for every such node, one under `<graph id>/<node id>` for the node of that graph alone.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

Masks = Mapping[str, Mapping[str, Any]]
"""{node id: {pin: value}}: values that replace the inputs of nodes in one run."""


def scoped(graph_id: UUID, node_id: str) -> str:
    """The name by which masks mean a node of one graph only."""
    return f"{graph_id}/{node_id}"


def masks_of(graph_id: UUID, masks: Masks) -> Masks:
    """Masks by node id, as they count in a run of one graph: what is said of the graph's node goes before."""
    prefix = scoped(graph_id, "")
    own = {name.removeprefix(prefix): pins for name, pins in masks.items() if name.startswith(prefix)}
    return {**masks, **{node: {**masks.get(node, {}), **pins} for node, pins in own.items()}} if own else masks
