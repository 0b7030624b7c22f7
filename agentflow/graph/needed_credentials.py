"""Finds the credentials that the nodes of a graph need.

A pin takes credentials if its schema has `credentials_provider`: a list of providers. The provider is the one that the
pin's value names; else the one that the block derives from the node's other values (for a model, its maker); else any
in the list. A node that says `credentials_optional` in its metadata, or a pin that says it in its schema, needs none.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agentflow.errors import Problem
from agentflow.graph.catalogue import BlockKind, BlockSpec, Catalogue, PinSpec
from agentflow.graph.model import Graph, Node
from agentflow.graph.pins import base_name
from agentflow.graph.wiring import Masks, Wiring

Check = Callable[["Need"], str | None]
"""What is wrong with the credential that a pin would get; None: nothing."""


@dataclass(frozen=True, slots=True)
class Need:
    """A pin of a node that takes credentials.

    Attributes:
        node: the node.
        pin: the pin.
        providers: a credential of any of these is enough.
        value: the pin's value, which may name a credential; None: it has none.
        later: whether a link will bring the pin's value.
        optional: whether the node also runs without one.
    """

    node: Node
    pin: PinSpec
    providers: list[str]
    value: Any
    later: bool
    optional: bool


def needed(graph: Graph, catalogue: Catalogue, masks: Masks | None = None) -> Iterator[Need]:
    """The credentials that the nodes of `graph`, without its sub-graphs, need in a run with these masks."""
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
            yield Need(
                node, pin, providers_of(pin, spec, given, later), given.get(pin.name), pin.name in later, bool(optional)
            )


def credential_problems(needs: Iterable[Need], check: Check) -> list[Problem]:
    """An error for each pin whose credential is missing or wrong. For submissions only: a graph is saved without.

    Linked pins are not checked, because their value is not known yet. Sub-graphs are checked when their own runs start.
    """
    found = ((need, check(need)) for need in needs if not need.later)
    return [Problem(message, need.node.id, need.pin.name) for need, message in found if message is not None]


def missing(need: Need) -> str | None:
    """The message where there is no credential; None: the node also runs without."""
    return None if need.optional else f"this node needs a credential for {' or '.join(need.providers)}"


def providers_of(pin: PinSpec, spec: BlockSpec, given: Mapping[str, Any], later: Collection[str]) -> list[str]:
    """Whose credentials a pin takes at a node: that of the provider which its values name, else of any of these.

    Args:
        pin: the pin.
        spec: the block.
        given: the values of the node's pins.
        later: the pins whose values links bring.
    """
    value = given.get(pin.name)
    named = value.get("provider") if isinstance(value, Mapping) else None
    if isinstance(named, str) and named:
        return [named.lower()]  # blocks read the name in lower case, too
    told = None if pin.name in later else spec.provider(given, later)
    return [told] if told is not None else list(map(str, pin.schema["credentials_provider"]))
