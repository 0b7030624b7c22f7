"""What may a graph's users give it, and what will they get? The computed parts of its public description.

JSON Schemas of the inputs, the outputs and the credentials, and the document as the API shows it. They are computed
from the nodes each time, never taken from what an import claims.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from agentflow.graph.catalogue import BlockKind, BlockSpec, Catalogue, PinSpec
from agentflow.graph.coercion import coerce
from agentflow.graph.model import Graph, Node
from agentflow.graph.needed_credentials import needed
from agentflow.graph.run_inputs import VALUE, linked_inputs, needs_value
from agentflow.graph.withholding import says_secret

_OF_THE_BLOCK = ("title", "description", "default")  # these speak of any such node, not of this one
_WEBHOOKS = (BlockKind.WEBHOOK, BlockKind.WEBHOOK_MANUAL)


def input_schema(graph: Graph, catalogue: Catalogue) -> dict[str, Any]:
    """JSON Schema of the inputs of a run: one property per name of an input node.

    Required are those that get no value unless the run gives it (`run_inputs.needs_value`).
    """
    linked = linked_inputs(graph)
    return _schema_of(
        graph,
        catalogue,
        BlockKind.INPUT,
        lambda node, spec: needs_value(node, spec, linked=node.id in linked),
    )


def output_schema(graph: Graph, catalogue: Catalogue) -> dict[str, Any]:
    """JSON Schema of the outputs of a run: one property per name of an output node."""
    return _schema_of(graph, catalogue, BlockKind.OUTPUT, lambda node, spec: node.input_default.get(VALUE) is None)


def credentials_input_schema(graph: Graph, catalogue: Catalogue) -> dict[str, Any]:
    """JSON Schema of the credentials that a run needs, its sub-graphs' runs included.

    One property per distinct set of providers and types; it is required unless every node that uses it, or its pin,
    says `credentials_optional`.
    """
    properties: dict[str, Any] = {}
    required: dict[str, bool] = defaultdict(bool)
    for need in (found for part in (graph, *graph.parts()) for found in needed(part, catalogue)):
        schema = {**need.pin.schema, "credentials_provider": need.providers}
        providers, types = sorted(need.providers), sorted(schema.get("credentials_types", ()))
        key = _key(providers, types, properties)
        properties.setdefault(key, {**schema, "title": key, "secret": True})
        required[key] |= not need.optional
    return {"type": "object", "properties": properties, "required": [key for key, needed in required.items() if needed]}


def _key(providers: list[str], types: list[str], taken: Mapping[str, Any]) -> str:
    """The name of an entry. Two sets may be written alike (`a-b` is one provider or two): the later gets a number."""
    written = f"{'-'.join(providers)}_{'-'.join(types)}_credentials"
    numbered = (written if number == 1 else f"{written}_{number}" for number in count(1))
    return next(key for key in numbered if key not in taken or _is_of(taken[key], providers, types))


def _is_of(entry: Mapping[str, Any], providers: list[str], types: list[str]) -> bool:
    return sorted(entry["credentials_provider"]) == providers and sorted(entry.get("credentials_types", ())) == types


def describe(graph: Graph, catalogue: Catalogue) -> dict[str, Any]:
    """The document as the API shows it: with the computed schemas and flags, and each node with its own links."""
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
    """One property per name of a node of that kind, as the first such node says; required if any of them needs it."""
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
    """The schema of one input or output: the value's, with the title, description and default of the node."""
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
