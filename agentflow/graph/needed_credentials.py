"""Which credentials do the nodes of a graph need, and which of them has nobody?

A pin takes credentials where its schema names `credentials_provider`: a list of providers, any of which does. Nodes
that say `credentials_optional` in their metadata, and pins that say it in their schema, go without one.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from agentflow.errors import Problem
from agentflow.graph.catalogue import BlockKind, Catalogue, PinSpec
from agentflow.graph.model import Graph, Node
from agentflow.graph.wiring import Masks, Wiring

Has = Callable[[str], bool]
"""Whether there is a credential for a provider."""


def needed(graph: Graph, catalogue: Catalogue) -> Iterator[tuple[Node, PinSpec, bool]]:
    """The credentials pins of `graph` itself, with their nodes, and whether it goes without a credential."""
    for node in graph.nodes:
        spec = catalogue(node.block_id)
        if spec is None or spec.kind is BlockKind.NOTE:
            continue
        for pin in spec.inputs.values():
            if "credentials_provider" in pin.schema:
                optional = node.metadata.get("credentials_optional") or pin.schema.get("credentials_optional")
                yield node, pin, bool(optional)


def missing_credentials(
    graph: Graph, catalogue: Catalogue, has_credential: Has, masks: Masks | None = None
) -> list[Problem]:
    """An error for each node that needs a credential which nobody has. For submissions: a graph is saved without.

    A linked pin is left to the value that it will get, and sub-graphs to the submissions of their own runs.
    """
    masks = masks or {}
    linked = Wiring.of(graph, catalogue, masks).linked
    problems = []
    for node, pin, optional in needed(graph, catalogue):
        if optional or pin.name in linked[node.id]:
            continue
        wanted = _wanted(pin, masks.get(node.id, {}).get(pin.name, node.input_default.get(pin.name)))
        if not any(has_credential(provider) for provider in wanted):
            problems.append(Problem(f"this node needs a credential for {' or '.join(wanted)}", node.id, pin.name))
    return problems


def _wanted(pin: PinSpec, value: Any) -> list[str]:
    """The provider that the pin's value names, as blocks read it, else all that the pin takes."""
    named = value.get("provider") if isinstance(value, Mapping) else None
    return [named.lower()] if isinstance(named, str) and named else list(map(str, pin.schema["credentials_provider"]))
