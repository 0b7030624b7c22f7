"""Estimates what a run of a graph costs before it runs: each node once, with what is known of its inputs.

What comes over a link is unknown, and so may be which cost counts: the estimate is a range. What is paid by use has no
price yet. Graphs that a graph runs are read with the caller's `Lookup`.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from agentflow.blocks.registry import catalogue
from agentflow.credits import pricing
from agentflow.credits.model_prices import Prices
from agentflow.engine.inputs import collect_shown
from agentflow.graph.catalogue import BlockKind, BlockSpec
from agentflow.graph.costs import RESERVED, Cost, CostType, matches
from agentflow.graph.pins import base_name
from agentflow.graph.plan import Plan, PlanNode
from agentflow.graph.scoped_masks import Masks, masks_of

Lookup = Callable[[UUID, int | None], Plan | None]
"""The plan of a graph of the owner's, by id and version (None: the latest); None: there is none."""

Priced = Callable[[BlockSpec, Mapping[str, Any], Collection[str]], Mapping[str, Any]]
"""What costs see of the credentials that a block will use: pin → provider and whose; see `credentials.granting`.

It is given the block, its known inputs, and the pins whose values come later. A pin that takes a credential and is left
out of its answer is unknown.
"""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one node costs each time.

    Attributes:
        path: the sub-graph nodes above it, and its own id.
        block: its block's name.
        types: what it may be counted by.
        least, most: credits before it runs; `most` None: that depends on the size of what comes over its links.
        by_use: more is paid by what it uses.
    """

    path: tuple[str, ...]
    block: str
    types: tuple[CostType, ...]
    least: int
    most: int | None
    by_use: bool


class _Place(NamedTuple):
    plan: Plan
    path: tuple[str, ...]
    graphs: frozenset[UUID]


class _Found(NamedTuple):
    node: PlanNode
    path: tuple[str, ...]
    mask: Mapping[str, Any]


def can_cost(plan: Plan, masks: Masks, lookup: Lookup, priced: Priced) -> bool:
    """Whether some node of a graph, or of those that it runs, can cost something."""
    return any(_is_paid(_known(node, mask, priced).costs) for node, _, mask in _paid_nodes(plan, masks, lookup))


def estimates(plan: Plan, masks: Masks, prices: Prices, lookup: Lookup, priced: Priced) -> list[Estimate]:
    """What the nodes of a graph cost that can cost something. A graph that runs itself is entered once."""
    found = ((node, path, _known(node, mask, priced)) for node, path, mask in _paid_nodes(plan, masks, lookup))
    return [_estimate(node, path, known, prices) for node, path, known in found if _is_paid(known.costs)]


def _paid_nodes(plan: Plan, masks: Masks, lookup: Lookup) -> Iterator[_Found]:
    return (found for found in _nodes(plan, lookup, masks) if _costs(found.node))


def _is_paid(costs: Sequence[Cost | None]) -> bool:
    return any(cost is not None and (cost.amount > 0 or cost.type is CostType.TOKENS) for cost in costs)


def _nodes(plan: Plan, lookup: Lookup, masks: Masks) -> Iterator[_Found]:
    waiting = [_Place(plan, (), frozenset({plan.graph_id}))]
    while waiting:
        place = waiting.pop()
        own = masks_of(place.plan.graph_id, masks)
        for node in place.plan.masked(own).nodes:
            path = (*place.path, node.id)
            yield _Found(node, path, own.get(node.id, {}))
            child = _child(node, lookup) if node.kind is BlockKind.AGENT else None
            if child is not None and child.graph_id not in place.graphs:
                waiting.append(_Place(child, path, place.graphs | {child.graph_id}))


def _child(node: PlanNode, lookup: Lookup) -> Plan | None:
    given, version = node.input_default.get("graph_id"), node.input_default.get("graph_version")
    try:
        return lookup(UUID(str(given)), version if type(version) is int else None)
    except ValueError:  # it comes over a link
        return None


def _costs(node: PlanNode) -> tuple[Cost, ...]:
    spec = catalogue(node.block_id)
    return () if spec is None else spec.costs


class _Known(NamedTuple):
    """What is known of a node's inputs, the pins of which nothing is, and the costs that may count."""

    inputs: Mapping[str, Any]
    unknown: Set[str]
    costs: Sequence[Cost | None]


def _known(node: PlanNode, mask: Mapping[str, Any], priced: Priced) -> _Known:
    spec = catalogue(node.block_id)
    assert spec is not None
    linked = {base_name(pin) for pin in node.pins}
    defaults = {name: pin.default for name, pin in spec.inputs.items() if not pin.required}
    given = {**defaults, **collect_shown(node, {}, mask)}
    known = {pin: value for pin, value in given.items() if pin not in linked}
    credentials = priced(spec, known, linked)
    takes = {name for name, pin in spec.inputs.items() if "credentials_provider" in pin.schema}
    unknown = (linked | takes) - set(credentials)
    known = {pin: value for pin, value in known.items() if pin not in takes} | dict(credentials)
    return _Known(known, unknown, _candidates(spec.costs, known, unknown))


def _estimate(node: PlanNode, path: tuple[str, ...], known: _Known, prices: Prices) -> Estimate:
    found, unknown = known.costs, known.unknown
    bills = [
        pricing.bill((Cost(cost.amount, cost.type, cost.divisor),), known.inputs, prices) for cost in found if cost
    ]
    before = [bill.before for bill in bills] + [0] * (None in found)
    types = tuple(dict.fromkeys(cost.type for cost in found if cost))
    grows = CostType.BYTE in types and bool(unknown)
    unpriced = CostType.TOKENS in types and "model" in unknown
    by_use = any(kind not in RESERVED or kind is CostType.TOKENS for kind in types)
    return Estimate(
        path, node.block_name, types, min(before, default=0), None if grows or unpriced else max(before), by_use
    )


def _candidates(costs: tuple[Cost, ...], known: Mapping[str, Any], unknown: Set[str]) -> list[Cost | None]:
    """The costs that may count; None among them: it may be free."""
    found: list[Cost | None] = []
    for cost in costs:
        certain = {name: value for name, value in cost.filter.items() if name not in unknown}
        if matches(certain, known):
            found.append(cost)
            if len(certain) == len(cost.filter):
                return found
    return [*found, None]
