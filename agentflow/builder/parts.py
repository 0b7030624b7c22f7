"""How does one graph run another? By a node that names it, with a copy of it in the same document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agentflow.builder.faults import fault, no_such_pin
from agentflow.builder.pins import Pin
from agentflow.builder.values import placed
from agentflow.graph import model, schemas
from agentflow.graph.exchange import distinct_parts
from agentflow.graph.model import AGENT_BLOCK
from agentflow.graph.pins import split

if TYPE_CHECKING:
    from agentflow.builder.graph import Graph
    from agentflow.builder.node import Node


def sub_graph(graph: Graph, inner: Graph, inputs: Mapping[str, Any], id: str | None, more: Mapping[str, Any]) -> Node:
    """See `Graph.sub_graph`."""
    called = inner._model
    takes, gives = (make(called, inner._spec) for make in (schemas.input_schema, schemas.output_schema))
    node_id = graph._free_id(id, called.name or "sub_graph")
    for name in inputs:
        if name not in takes["properties"]:
            raise no_such_pin(repr(called.name or "the sub-graph"), "input", name, takes["properties"], node_id)
    literals, links = _sorted(inputs, node_id)
    before = len(graph._model.sub_graphs)
    include(graph, inner)
    names = {
        "graph_id": str(called.id),
        "graph_version": called.version,
        "agent_name": called.name,
        "inputs": literals,
        "input_schema": takes,
        "output_schema": gives,
    }
    try:
        # Not as pins: the schemas must be there before anything is linked to what they declare.
        return graph.add(
            AGENT_BLOCK, node_id, **{**more, "unchecked": names, "pins": {**more.get("pins", {}), **links}}
        )
    except Exception:
        del graph._model.sub_graphs[before:]
        raise


def include(graph: Graph, inner: Graph) -> None:
    """See `Graph.include`."""
    root, given = graph._model, inner.as_model()
    if inner is graph:  # recursion: the document is its own copy
        return
    own = (root.id, root.version)
    known = {own: root} | distinct_parts(root)
    added = {(given.id, given.version): given.model_copy(update={"sub_graphs": []})} | distinct_parts(given)
    for key, part in added.items():
        if key in known and key != own and not _same(known[key], part):
            message = (
                f"the sub-graph {part.name!r} was changed after it was put into the document: give it a new version"
            )
            raise fault(message)
        if key not in known:
            root.sub_graphs.append(part.model_copy(update={"sub_graphs": []}))
    graph._specs.update(inner._specs)


def _sorted(inputs: Mapping[str, Any], node_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs without a pin in them, which the node carries as one literal; and the places that pins feed."""
    literals: dict[str, Any] = {}
    links: dict[str, Any] = {}
    for name, value in inputs.items():
        places = dict(placed(name, value, node_id))
        if any(isinstance(item, Pin) for item in places.values()):
            if split(name)[1]:
                raise fault(f"the input {name!r} has a name that a link cannot lead to", node_id, name)
            links |= places
        else:
            literals |= places
    return literals, links


def _same(one: model.Graph, other: model.Graph) -> bool:
    return (one.nodes, one.links) == (other.nodes, other.links)
