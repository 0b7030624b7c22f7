"""Plans made by hand, for tests that need no blocks: nodes 0 … n − 1, and links between their pins."""

from collections.abc import Mapping
from uuid import UUID, uuid4

from agentflow.graph.catalogue import ERROR_PIN, BlockKind
from agentflow.graph.pins import base_name
from agentflow.graph.plan import Plan, PlanLink, PlanNode
from agentflow.graph.settings import GraphSettings, NodeSettings

Wire = tuple[int, str, int, str]
"""A link: source node, its pin, sink node, its pin."""


def plan_of(
    *wires: Wire,
    nodes: int,
    static: frozenset[int] = frozenset(),
    settings: Mapping[int, NodeSettings] | None = None,
    defaults: Mapping[int, dict[str, object]] | None = None,
    graph_id: UUID | None = None,
    inputs: frozenset[int] = frozenset(),
) -> Plan:
    """A plan with these links; `static` are the places of those that are static, `inputs` the input nodes."""
    own = {number: (settings or {}).get(number, NodeSettings()) for number in range(nodes)}
    links = [PlanLink(number, *wire, static=number in static) for number, wire in enumerate(wires)]
    outgoing: list[list[PlanLink]] = [[] for _ in range(nodes)]
    pins: list[dict[str, bool]] = [{} for _ in range(nodes)]
    for link in links:
        outgoing[link.source].append(link)
        pins[link.sink][link.sink_pin] = pins[link.sink].get(link.sink_pin, False) or link.static
    made = tuple(
        PlanNode(
            number=number,
            id=f"n{number}",
            block_id=f"block-{number}",
            block_name="Test",
            kind=BlockKind.INPUT if number in inputs else BlockKind.STANDARD,
            title=f"Node {number}",
            input_default=(defaults or {}).get(number, {}),
            settings=own[number],
            pins=pins[number],
            base=2 if number in inputs and pins[number] else 1,
            links=tuple(outgoing[number]),
            handles_errors=any(base_name(link.source_pin) == ERROR_PIN for link in outgoing[number]),
            starts=number in inputs or not pins[number],
            name=f"input {number}" if number in inputs else None,
            lane=own[number].queue or "default",
            timeout=own[number].timeout,
        )
        for number in range(nodes)
    )
    return Plan(graph_id=graph_id or uuid4(), version=1, settings=GraphSettings(), nodes=made)
