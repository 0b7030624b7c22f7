"""Expands the short forms that authors may use in a document.

A node may name its block by name instead of id. A sub-graph of the same document may have any text as its id; nodes
refer to it by that text in `graph_id`, and need not repeat the schemas of the graph that they run.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from uuid import UUID, uuid5

from agentflow.graph.catalogue import Catalogue
from agentflow.graph.exchange import References, distinct_parts, referred_graph
from agentflow.graph.model import AGENT_BLOCK, Graph, Node
from agentflow.graph.schemas import input_schema, output_schema

_NAMESPACE: Final = UUID("5f0c9a52-7c0e-5d8a-9f53-0b3c1d1e6a77")
_PARTS: Final = ("sub_graphs", "subgraphs")
_LEVELS: Final = 50  # of nested sub-graphs; deeper documents are refused elsewhere


def with_ids(document: Mapping[str, Any], block_id: Callable[[str], str | None]) -> dict[str, Any]:
    """`document` with names replaced by ids. Parts that do not have the shape of a graph are left alone.

    Args:
        document: the client's JSON.
        block_id: block name → id, or None if there is no such block.
    """
    graphs = list(_graphs(document))
    names = {graph["id"]: str(uuid5(_NAMESPACE, graph["id"])) for graph in graphs if _is_name(graph.get("id"))}
    return _spelled_out(document, names, block_id, 0)


def _graphs(document: Mapping[str, Any], level: int = 0) -> Iterator[Mapping[str, Any]]:
    yield document
    for part in _parts(document) if level < _LEVELS else ():
        yield from _graphs(part, level + 1)


def _parts(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for key in _PARTS:
        listed = document.get(key)
        yield from (part for part in (listed if isinstance(listed, list) else ()) if isinstance(part, Mapping))


def _is_name(given: Any) -> bool:
    if not isinstance(given, str) or not 0 < len(given) <= 200 or not given.isprintable():
        return False
    try:
        UUID(given)
    except ValueError:
        return True
    return False


def _spelled_out(
    document: Mapping[str, Any], names: Mapping[str, str], block_id: Callable[[str], str | None], level: int
) -> dict[str, Any]:
    changed = dict(document)
    if _is_name(document.get("id")):
        changed["id"] = names[document["id"]]
    if isinstance(document.get("nodes"), list):
        changed["nodes"] = [_node(node, names, block_id) for node in document["nodes"]]
    for key in _PARTS:
        if isinstance(document.get(key), list) and level < _LEVELS:
            changed[key] = [
                _spelled_out(part, names, block_id, level + 1) if isinstance(part, Mapping) else part
                for part in document[key]
            ]
    return changed


def _node(node: Any, names: Mapping[str, str], block_id: Callable[[str], str | None]) -> Any:
    if not isinstance(node, dict) or not isinstance(node.get("block_id"), str):
        return node
    found = block_id(node["block_id"])
    block = found or node["block_id"]
    given = node.get("input_default")
    if block == AGENT_BLOCK and isinstance(given, dict):
        name = given.get("graph_id")
        if isinstance(name, str) and name in names:
            return {**node, "block_id": block, "input_default": {**given, "graph_id": names[name]}}
    return {**node, "block_id": block} if found else node


def with_schemas(graph: Graph, catalogue: Catalogue) -> Graph:
    """`graph` with the missing schemas of all its sub-graph nodes filled in, at every level."""
    known = {(graph.id, graph.version): graph} | distinct_parts(graph)
    references = References(graph, {key: key for key in known})

    def completed(node: Node) -> Node:
        given = node.input_default
        found = referred_graph(node)
        target = references.new_name(*found) if found is not None else None
        if target is None or ("input_schema" in given and "output_schema" in given):
            return node
        inner = known[target]
        schemas = {"input_schema": input_schema(inner, catalogue), "output_schema": output_schema(inner, catalogue)}
        return node.model_copy(update={"input_default": {**schemas, **given}})

    def of(one: Graph) -> Graph:
        nodes = [completed(node) for node in one.nodes]
        return one.model_copy(update={"nodes": nodes, "sub_graphs": [of(part) for part in one.sub_graphs]})

    if not any(referred_graph(node) for one in known.values() for node in one.nodes):
        return graph
    return of(graph)
