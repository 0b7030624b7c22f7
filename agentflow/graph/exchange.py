"""How does a graph come in from elsewhere, and how does it go out? Ids are given anew; secrets stay behind.

Graphs refer to each other by ids: a sub-graph node names the graph that it runs, a tool pin the node that it feeds.
Wherever ids change, these change with them. References to graphs that are not part of the document stay.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

from agentflow.graph.catalogue import BlockKind, BlockSpec, Catalogue
from agentflow.graph.model import Graph, Node
from agentflow.graph.pins import base_name, is_tool_pin, tool_pin
from agentflow.graph.schemas import describe
from agentflow.ids import new_id

AGENT_BLOCK: Final = "e189baac-8c20-45a1-94a7-55177ea42565"
"""The block of sub-graph nodes, as exports name it."""

_SCHEMAS: Final = ("input_schema", "output_schema")
_SECRET_WORDS: Final = frozenset({"credential", "credentials", "password", "secret", "token", "apikey"})
_WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_MARKS: Final = ("user_id", "is_template", "input_schema", "credentials_input_schema", "forked_from_id", "subgraphs")

Reference = tuple[UUID, int]
"""A graph and its version, as a sub-graph node names it."""


def is_export(document: Mapping[str, Any]) -> bool:
    """Whether a document looks as if another system had written it: then what does not fit is only warned about.

    What we write ourselves has `settings` in each node; an export of ours has `user_id` as well.
    """
    nodes = document.get("nodes")
    first = nodes[0] if isinstance(nodes, list) and nodes and isinstance(nodes[0], dict) else {}
    if "settings" in first:
        return "user_id" in document
    return "input_links" in first or any(mark in document for mark in _MARKS)


def parts(graph: Graph) -> Iterator[Graph]:
    """The sub-graphs of a document, of all levels; of two with one id, both."""
    for inner in graph.sub_graphs:
        yield inner
        yield from parts(inner)


def referred_graph(node: Node) -> UUID | None:
    """The graph that a sub-graph node runs; None: it is no such node, or names none."""
    given = node.input_default.get("graph_id")
    if node.block_id != AGENT_BLOCK or not isinstance(given, str):
        return None
    try:
        return UUID(given)
    except ValueError:
        return None


def referred_graphs(graph: Graph) -> dict[str, UUID]:
    """Node id → the graph that it runs, for the sub-graph nodes of `graph` alone."""
    return {node.id: found for node in graph.nodes if (found := referred_graph(node)) is not None}


def with_references(graph: Graph, known: Mapping[UUID, Reference]) -> Graph:
    """`graph` with the references of its sub-graph nodes replaced as `known` says. Its parts are left alone."""
    nodes = []
    for node in graph.nodes:
        target = known.get(referred_graph(node) or _NOBODY)
        if target is not None:
            default = {**node.input_default, "graph_id": str(target[0]), "graph_version": target[1]}
            node = node.model_copy(update={"input_default": default})
        nodes.append(node)
    return graph.model_copy(update={"nodes": nodes})


def normalised(graph: Graph) -> Graph:
    """`graph` with its parts known by number, in the order of the document: equal for copies with other ids."""
    inner = list(parts(graph))
    known = {part.id: (UUID(int=number + 1), 1) for number, part in enumerate(inner)} | {graph.id: (_NOBODY, 1)}
    numbered = [
        with_references(part, known).model_copy(
            update={
                "id": known[part.id][0],
                "version": 1,
                "sub_graphs": [],
                "nodes": _unnamed(with_references(part, known)),
            }
        )
        for part in inner
    ]
    return with_references(graph, known).model_copy(update={"sub_graphs": numbered})


def export(graph: Graph, catalogue: Catalogue) -> dict[str, Any]:
    """The document of `graph` for others: without secrets, with new ids of graphs, nodes and links."""
    inner = list(parts(graph))
    known: dict[UUID, Reference] = {part.id: (new_id(), 1) for part in (graph, *inner)}
    exported = [_exported(part, known, catalogue) for part in (graph, *inner)]
    document = exported[0].model_copy(update={"sub_graphs": exported[1:]})
    return {**describe(document, catalogue), "user_id": ""}


def _exported(graph: Graph, known: Mapping[UUID, Reference], catalogue: Catalogue) -> Graph:
    own, version = known[graph.id]
    ids = {node.id: str(new_id()) for node in graph.nodes}
    nodes = [
        node.model_copy(
            update={
                "id": ids[node.id],
                "graph_id": own,
                "graph_version": version,
                "webhook_id": None,
                "input_default": _without_secrets(node, catalogue(node.block_id)),
                "settings": _renamed_settings(node, ids),
            }
        )
        for node in with_references(graph, known).nodes
    ]
    links = [
        link.model_copy(
            update={
                "id": str(new_id()),
                "source_id": ids.get(link.source_id, link.source_id),
                "sink_id": ids.get(link.sink_id, link.sink_id),
                "source_name": tool_pin(ids[link.sink_id], link.sink_name)
                if is_tool_pin(link.source_name) and link.source_name != base_name(link.source_name)
                else link.source_name,
            }
        )
        for link in graph.links
    ]
    return graph.model_copy(update={"id": own, "version": version, "nodes": nodes, "links": links, "sub_graphs": []})


def _renamed_settings(node: Node, ids: Mapping[str, str]) -> Any:
    undo = node.settings.compensate_with
    if undo is None or undo not in ids:
        return node.settings
    return node.settings.model_copy(update={"compensate_with": ids[undo]})


def _without_secrets(node: Node, spec: BlockSpec | None) -> dict[str, Any]:
    secret = (
        {name for name, pin in spec.inputs.items() if pin.secret or "credentials_provider" in pin.schema}
        if spec
        else set()
    )
    if spec is not None and spec.kind is BlockKind.INPUT and node.input_default.get("secret") is True:
        secret |= {"value"}
    kept: dict[str, Any] = {}
    for pin, value in node.input_default.items():
        name = base_name(pin)
        if name in secret or (is_secret_name(pin.rpartition("_#_")[2]) and _can_hide(value)):
            continue
        kept[pin] = _schema_without_defaults(value) if name in _SCHEMAS else _stripped(value)
    return kept


def _stripped(value: Any) -> Any:
    """`value` without the entries of dictionaries, at any depth, whose names say that they are secret."""
    if isinstance(value, dict):
        return {key: _stripped(entry) for key, entry in value.items() if not (is_secret_name(key) and _can_hide(entry))}
    return [_stripped(item) for item in value] if isinstance(value, list) else value


def _schema_without_defaults(value: Any) -> Any:
    """A sub-graph node's JSON Schema: the properties stay, but not the defaults of secret ones."""
    properties = value.get("properties") if isinstance(value, dict) else None
    if not isinstance(properties, dict):
        return value
    shown = {}
    for name, entry in properties.items():
        hides = isinstance(entry, dict) and (entry.get("secret") is True or is_secret_name(name))
        shown[name] = {key: part for key, part in entry.items() if key != "default"} if hides else entry
    return {**value, "properties": shown}


def is_secret_name(name: str) -> bool:
    """Whether the name of a pin or an entry says that its value is secret: `api_key`, `dbPassword`."""
    words = [word.lower() for word in _WORDS.findall(name)]
    return not _SECRET_WORDS.isdisjoint(words) or ("api", "key") in set(pairwise(words))


def _can_hide(value: Any) -> bool:
    """A flag or a number is no secret: the pin `secret` of an input node says that another one is."""
    return isinstance(value, str | dict | list)


def _unnamed(graph: Graph) -> list[Node]:
    return [node.model_copy(update={"graph_id": None, "graph_version": None}) for node in graph.nodes]


_NOBODY: Final = UUID(int=0)
