"""Which credentials do the nodes of a graph need, and which of them has nobody?

A pin takes credentials where its schema names `credentials_provider`: a list of providers. It needs one of the provider
that its value names, else of the one that the block tells by what else the node is given (a model is its maker's),
else of any in the list. Nodes that say `credentials_optional` in their metadata, and pins that say it in their schema,
go without one.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agentflow.errors import Problem
from agentflow.graph.catalogue import BlockKind, BlockSpec, Catalogue, PinSpec
from agentflow.graph.model import Graph, Node
from agentflow.graph.pins import base_name
from agentflow.graph.wiring import Masks, Wiring

Has = Callable[[str], bool]
"""Whether there is a credential for a provider."""


@dataclass(frozen=True, slots=True)
class Need:
    """A pin of a node that takes credentials.

    Attributes:
        node: the node.
        pin: the pin.
        providers: any of these does.
        later: a link will bring its value.
        optional: the node goes without one.
    """

    node: Node
    pin: PinSpec
    providers: list[str]
    later: bool
    optional: bool


def needed(graph: Graph, catalogue: Catalogue, masks: Masks | None = None) -> Iterator[Need]:
    """The credentials that the nodes of `graph` itself need in a run with these masks."""
    wiring = Wiring.of(graph, catalogue, masks)
    for id, node in wiring.nodes.items():
        spec = wiring.specs.get(id)
        if spec is None or spec.kind is BlockKind.NOTE:
            continue
        pins = [pin for pin in spec.inputs.values() if "credentials_provider" in pin.schema]
        given = {**node.input_default, **wiring.masks.get(id, {})} if pins else {}
        later = {base_name(pin) for pin in wiring.linked[id]}
        for pin in pins:
            optional = node.metadata.get("credentials_optional") or pin.schema.get("credentials_optional")
            yield Need(node, pin, _providers(pin, spec, given, later), pin.name in later, bool(optional))


def missing_credentials(
    graph: Graph, catalogue: Catalogue, has_credential: Has, masks: Masks | None = None
) -> list[Problem]:
    """An error for each node that needs a credential which nobody has. For submissions: a graph is saved without.

    A linked pin is left to the value that it will get, and sub-graphs to the submissions of their own runs.
    """
    return [
        Problem(f"this node needs a credential for {' or '.join(need.providers)}", need.node.id, need.pin.name)
        for need in needed(graph, catalogue, masks)
        if not need.optional and not need.later and not any(map(has_credential, need.providers))
    ]


def _providers(pin: PinSpec, spec: BlockSpec, given: Mapping[str, Any], later: set[str]) -> list[str]:
    value = given.get(pin.name)
    named = value.get("provider") if isinstance(value, Mapping) else None
    if isinstance(named, str) and named:
        return [named.lower()]  # as blocks read it
    told = None if pin.name in later else spec.provider(given, later)
    return [told] if told is not None else list(map(str, pin.schema["credentials_provider"]))
