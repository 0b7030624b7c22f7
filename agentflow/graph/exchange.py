"""Imports and exports graphs: gives new ids, keeps references between graphs intact, and leaves secrets out.

Graphs refer to each other by id and version: a sub-graph node names the graph that it runs, a tool pin the node that
it feeds. When ids change, these references change with them. References to graphs outside the document stay.
`withholding` decides what is secret.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar
from uuid import UUID

from agentflow.graph.catalogue import Catalogue
from agentflow.graph.model import AGENT_BLOCK, Graph, Link, Node
from agentflow.graph.pins import tool_pin, tool_target
from agentflow.graph.schemas import describe
from agentflow.graph.withholding import without_secret_entries, without_secrets
from agentflow.ids import new_id

_MARKS: Final = ("user_id", "is_template", "input_schema", "credentials_input_schema", "forked_from_id", "subgraphs")
_WEBHOOK: Final = "webhook"  # the whole webhook with its secret, which others store beside the node's webhook_id
_NOBODY: Final = UUID(int=0)

_Part = TypeVar("_Part", Graph, Node)

Reference = tuple[UUID, int]
"""A graph and its version, as a sub-graph node names it."""


def is_export(document: Mapping[str, Any]) -> bool:
    """Whether a document looks like another system's or an export; misfits in it are then only warnings.

    Our own documents have `settings` in each node; our exports have `user_id` as well.
    """
    nodes = document.get("nodes")
    first = nodes[0] if isinstance(nodes, list) and nodes and isinstance(nodes[0], dict) else {}
    if "settings" in first:
        return "user_id" in document
    return "input_links" in first or any(mark in document for mark in _MARKS)


def modernised(graph: Graph) -> Graph:
    """`graph` in the form of today's exports: sub-graph nodes of 2024 name their `inputs` `data`."""
    parts = [modernised(part) for part in graph.sub_graphs]
    nodes = [_modernised(node) for node in graph.nodes]
    if all(new is old for new, old in zip([*nodes, *parts], [*graph.nodes, *graph.sub_graphs], strict=True)):
        return graph
    return graph.model_copy(update={"nodes": nodes, "sub_graphs": parts})


def _modernised(node: Node) -> Node:
    given = node.input_default
    if node.block_id != AGENT_BLOCK or "inputs" in given or not isinstance(given.get("data"), dict):
        return node
    renamed = {"inputs" if pin == "data" else pin: value for pin, value in given.items()}
    return node.model_copy(update={"input_default": renamed})


def referred_graph(node: Node) -> tuple[UUID, int | None] | None:
    """The graph that a sub-graph node runs, and its version (None: the latest). None if it is no sub-graph node."""
    given, version = node.input_default.get("graph_id"), node.input_default.get("graph_version")
    if node.block_id != AGENT_BLOCK or not isinstance(given, str):
        return None
    try:
        return UUID(given), version if isinstance(version, int) else None
    except ValueError:
        return None


def referred_graphs(graph: Graph) -> Iterator[tuple[Node, UUID, int | None]]:
    """The sub-graph nodes of `graph` itself, each with the graph that it runs and its version."""
    for node in graph.nodes:
        if (found := referred_graph(node)) is not None:
            yield node, *found


class References:
    """The new names of the graphs in one document.

    Args:
        root: the graph of the document.
        renamed: (id, version) of each graph in the document → its new name.

    A reference without a version, or to a version of a sub-graph that is not in the document, means the one that is.
    """

    def __init__(self, root: Graph, renamed: Mapping[Reference, Reference]) -> None:
        self._renamed = renamed
        self._root_id = root.id
        self._by_id = {id: new for (id, _), new in sorted(renamed.items(), key=lambda item: item[0][1])}

    def new_name(self, graph_id: UUID, version: int | None) -> Reference | None:
        """The new name of that graph; None if it is not in the document."""
        if version is not None and (exact := self._renamed.get((graph_id, version))) is not None:
            return exact
        if graph_id == self._root_id and version is not None:
            return None  # an older version of the graph itself belongs to its owner, not to this document
        return self._by_id.get(graph_id)

    def follow(self, graph: Graph) -> Graph:
        """`graph` with the references of its sub-graph nodes replaced; its sub-graphs are left alone."""
        return graph.model_copy(update={"nodes": [self._followed(node) for node in graph.nodes]})

    def _followed(self, node: Node) -> Node:
        found = referred_graph(node)
        target = self.new_name(*found) if found is not None else None
        if target is None:
            return node
        default = {**node.input_default, "graph_id": str(target[0]), "graph_version": target[1]}
        return node.model_copy(update={"input_default": default})


def distinct_parts(graph: Graph) -> dict[Reference, Graph]:
    """The sub-graphs of all levels by (id, version), in the order of the document, without the graph itself."""
    found: dict[Reference, Graph] = {}
    for part in graph.parts():
        found.setdefault((part.id, part.version), part)
    found.pop((graph.id, graph.version), None)
    return found


def normalised(graph: Graph) -> list[Graph]:
    """`graph` and its sub-graphs with ids replaced by positions, so that copies with other ids compare equal."""
    parts = distinct_parts(graph)
    renamed: dict[Reference, Reference] = {key: (UUID(int=place + 1), 1) for place, key in enumerate(parts)}
    references = References(graph, renamed | {(graph.id, graph.version): (_NOBODY, 1)})
    return [references.follow(part).model_copy(update={"sub_graphs": []}) for part in (graph, *parts.values())]


def export(graph: Graph, catalogue: Catalogue) -> dict[str, Any]:
    """The document of `graph` for sharing: without secrets, with new ids of graphs, nodes and links."""
    parts = {(graph.id, graph.version): graph} | distinct_parts(graph)
    renamed: dict[Reference, Reference] = {key: (new_id(), 1) for key in parts}
    references = References(graph, renamed)
    exported = [_exported(references.follow(part), renamed[key], catalogue) for key, part in parts.items()]
    document = describe(exported[0].model_copy(update={"sub_graphs": exported[1:]}), catalogue)
    for shown in (document, *document["sub_graphs"]):
        shown["user_id"] = ""  # the mark of an export
    return document


def _exported(graph: Graph, name: Reference, catalogue: Catalogue) -> Graph:
    ids = {node.id: str(new_id()) for node in graph.nodes}
    nodes = [_exported_node(node, ids, name, catalogue) for node in graph.nodes]
    links = [_exported_link(link, ids) for link in graph.links]
    return _changed(graph, id=name[0], version=name[1], nodes=nodes, links=links, sub_graphs=[])


def _exported_node(node: Node, ids: Mapping[str, str], graph: Reference, catalogue: Catalogue) -> Node:
    undo = node.settings.compensate_with
    settings = (
        node.settings.model_copy(update={"compensate_with": ids[undo]}) if undo and undo in ids else node.settings
    )
    literals = without_secrets(node, catalogue(node.block_id))
    copy = _changed(node, id=ids[node.id], graph_id=graph[0], graph_version=graph[1], settings=settings)
    return copy.model_copy(update={"input_default": literals, "webhook_id": None})


def _exported_link(link: Link, ids: Mapping[str, str]) -> Link:
    target = tool_target(link.source_name)
    named = tool_pin(ids[target[0]], target[1]) if target is not None and target[0] in ids else link.source_name
    ends = {"source_id": ids.get(link.source_id, link.source_id), "sink_id": ids.get(link.sink_id, link.sink_id)}
    return link.model_copy(update={"id": str(new_id()), "source_name": named, **ends})


def _changed(part: _Part, **changes: Any) -> _Part:
    """A copy of a graph or a node with `changes`; unknown fields that hold a secret are left out."""
    unknown = {key: value for key, value in (part.model_extra or {}).items() if key != _WEBHOOK}
    fields = {name: getattr(part, name) for name in type(part).model_fields}
    return type(part).model_validate(without_secret_entries(unknown) | fields | changes)
