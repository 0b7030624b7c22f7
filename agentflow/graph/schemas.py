"""Computes a graph's public description: JSON Schemas of its inputs, outputs and credentials, and the API's document.

The schemas are computed from the nodes each time, never taken from what an import claims. `document_schema` describes
the documents themselves.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

from agentflow.graph.catalogue import BlockKind, BlockSpec, Catalogue, PinSpec
from agentflow.graph.coercion import coerce
from agentflow.graph.model import Graph, Node
from agentflow.graph.needed_credentials import Need, needed
from agentflow.graph.run_inputs import VALUE, linked_inputs, needs_value
from agentflow.graph.withholding import says_secret

_OF_THE_BLOCK = ("title", "description", "default")  # they describe the block, not this node
_SCOPES = "credentials_scopes"
_WEBHOOKS = (BlockKind.WEBHOOK, BlockKind.WEBHOOK_MANUAL)


def input_schema(graph: Graph, catalogue: Catalogue) -> dict[str, Any]:
    """JSON Schema of a run's inputs: one property per name of an input node.

    An input is required if it has no value unless the run gives one (`run_inputs.needs_value`).
    """
    linked = linked_inputs(graph)
    return _schema_of(
        graph,
        catalogue,
        BlockKind.INPUT,
        lambda node, spec: needs_value(node, spec, linked=node.id in linked),
    )


def output_schema(graph: Graph, catalogue: Catalogue) -> dict[str, Any]:
    """JSON Schema of a run's outputs: one property per name of an output node."""
    return _schema_of(graph, catalogue, BlockKind.OUTPUT, lambda node, spec: node.input_default.get(VALUE) is None)


def credentials_input_schema(graph: Graph, catalogue: Catalogue) -> dict[str, Any]:
    """JSON Schema of the credentials that a run needs, including those of its sub-graphs' runs.

    One property per distinct set of providers and types. It is required unless `credentials_optional` is set on every
    node that uses it, or on the pin.
    """
    properties: dict[str, Any] = {}
    required: dict[str, bool] = defaultdict(bool)
    for key, need in keyed_credentials(graph, catalogue):
        schema = {**need.pin.schema, "credentials_provider": need.providers}
        entry = properties.setdefault(key, {**schema, "title": key, "secret": True})
        scopes = dict.fromkeys([*entry.get(_SCOPES, ()), *schema.get(_SCOPES, ())])
        if scopes:  # one credential is for all of them
            entry[_SCOPES] = list(scopes)
        required[key] |= not need.optional
    return {"type": "object", "properties": properties, "required": [key for key, needed in required.items() if needed]}


def keyed_credentials(graph: Graph, catalogue: Catalogue) -> Iterator[tuple[str, Need]]:
    """The credentials that a run needs, including those of its sub-graphs' runs, by their keys in the schema."""
    taken: dict[str, tuple[list[str], list[str]]] = {}
    for need in (found for part in (graph, *graph.parts()) for found in needed(part, catalogue)):
        wanted = sorted(need.providers), sorted(need.pin.schema.get("credentials_types", ()))
        key = _key(*wanted, taken)
        taken[key] = wanted
        yield key, need


def _key(providers: list[str], types: list[str], taken: Mapping[str, tuple[list[str], list[str]]]) -> str:
    """The name of an entry. Two sets may read the same (`a-b` is one provider or two): the later gets a number."""
    written = f"{'-'.join(providers)}_{'-'.join(types)}_credentials"
    numbered = (written if number == 1 else f"{written}_{number}" for number in count(1))
    return next(key for key in numbered if taken.get(key, (providers, types)) == (providers, types))


def describe(graph: Graph, catalogue: Catalogue) -> dict[str, Any]:
    """The document as the API shows it: with computed schemas and flags, and with each node's links in the node."""
    document = graph.model_dump(mode="json")
    document |= {
        "input_schema": input_schema(graph, catalogue),
        "output_schema": output_schema(graph, catalogue),
        "credentials_input_schema": credentials_input_schema(graph, catalogue),
        "has_external_trigger": _has(graph, catalogue, *_WEBHOOKS),
        "has_human_in_the_loop": _has(graph, catalogue, BlockKind.HUMAN_IN_THE_LOOP),
    }
    incoming, outgoing = defaultdict(list), defaultdict(list)
    for link in document["links"]:
        outgoing[link["source_id"]].append(link)
        incoming[link["sink_id"]].append(link)
    for node in document["nodes"]:
        node |= {"input_links": incoming[node["id"]], "output_links": outgoing[node["id"]]}
    document["sub_graphs"] = [describe(inner, catalogue) for inner in graph.sub_graphs]
    return document


def _schema_of(
    graph: Graph, catalogue: Catalogue, kind: BlockKind, required: Callable[[Node, BlockSpec], bool]
) -> dict[str, Any]:
    """One property per name of a node of that kind, taken from the first such node; required if any of them is."""
    properties: dict[str, Any] = {}
    needed: dict[str, None] = {}
    for node in graph.nodes:
        spec = catalogue(node.block_id)
        name = node.input_default.get("name")
        if spec is None or spec.kind is not kind or not isinstance(name, str):
            continue
        if name not in properties:
            properties[name] = _property(name, node, spec.inputs)
        if required(node, spec):
            needed[name] = None
    return {"type": "object", "properties": properties, "required": list(needed)}


def _property(name: str, node: Node, pins: Mapping[str, PinSpec]) -> dict[str, Any]:
    """The schema of one input or output: the value's schema, with the node's title, description and default."""
    given = node.input_default
    schema = {key: entry for key, entry in _value_schema(pins).items() if key not in _OF_THE_BLOCK}
    secret = says_secret(given)
    schema |= {
        "title": given.get("title") or name,
        "secret": secret,
        "advanced": bool(coerce(given.get("advanced"), bool)),
    }
    if given.get("description"):
        schema["description"] = given["description"]
    if given.get("value") is not None and not secret:
        schema["default"] = given["value"]
    if isinstance(given.get("options"), list) and given["options"]:
        schema["enum"] = given["options"]
    return schema


def _value_schema(pins: Mapping[str, PinSpec]) -> Mapping[str, Any]:
    return pins["value"].schema if "value" in pins else {}


def _has(graph: Graph, catalogue: Catalogue, *kinds: BlockKind) -> bool:
    specs = (catalogue(node.block_id) for node in graph.nodes)
    return any(spec is not None and spec.kind in kinds for spec in specs)


def document_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a graph's document. It checks shapes; saving a graph checks blocks and pins."""
    schema = Graph.model_json_schema(mode="validation")
    for name, part in schema["$defs"].items():
        if name == "Graph":
            part["properties"]["id"] = _text("The graph's id; any text that sub-graph nodes of the document name.")
        elif name == "Node":
            part["properties"]["block_id"] |= {"description": "The id of a block, or its name."}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "AgentFlow graph", **schema}


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "maxLength": 200, "description": description}
