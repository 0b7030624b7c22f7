"""Routes yielded values: decides which links fire. Which execution of a sink gets a value is decided in
`storage/hot/sql/04_place.sql`.

A `Batch` is what one settle stores: outputs by ordinal, and the routes of those that go somewhere. A link whose source
pin is dynamic (`result_#_url`) takes a part of the value: the part is stored as one more output of the same ordinal,
once for each distinct selector.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from agentflow.engine.codec import dumps
from agentflow.graph.catalogue import ERROR_PIN, BlockKind
from agentflow.graph.pins import base_name, declared_name, select
from agentflow.graph.plan import Plan, PlanLink, PlanNode
from agentflow.graph.wiring import schema_properties

ERROR_ORDINALS: Final = 1_000_000_000
"""The engine's message of attempt n is output number ERROR_ORDINALS + n."""


@dataclass(slots=True)
class Batch:
    """Outputs and routes for one settle. The lists of each group run in parallel."""

    first: int
    count: int = 0
    ordinals: list[int] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)
    pins: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    route_ordinals: list[int] = field(default_factory=list)
    route_parts: list[int] = field(default_factory=list)
    route_links: list[PlanLink] = field(default_factory=list)

    def _store(self, ordinal: int, part: int, pin: str, text: str) -> None:
        self.ordinals.append(ordinal)
        self.parts.append(part)
        self.pins.append(pin)
        self.values.append(text)

    def _route(self, ordinal: int, part: int, link: PlanLink) -> None:
        self.route_ordinals.append(ordinal)
        self.route_parts.append(part)
        self.route_links.append(link)


class Router:
    """Routes the outputs of one node. Made once for each node in a process; knows no run."""

    def __init__(self, node: PlanNode) -> None:
        self._by_base: dict[str, list[PlanLink]] = {}
        self._plain: dict[str, bool] = {}
        declared = schema_properties(node.input_default, "output_schema") if node.kind is BlockKind.AGENT else ()
        for link in node.links:
            base = declared_name(link.source_pin, declared)
            self._by_base.setdefault(base, []).append(link)
            self._plain[base] = self._plain.get(base, True) and base == link.source_pin

    def add(self, batch: Batch, pin: str, value: Any, text: str) -> None:
        """Put the output (pin, value) into `batch`; `text` is `value` as the codec wrote it."""
        ordinal = batch.first + batch.count
        batch.count += 1
        self._add(batch, ordinal, pin, value, text)

    @property
    def selects_from_error(self) -> bool:
        """Whether a link selects something other than the message from the `error` pin."""
        return not self._plain.get(ERROR_PIN, True)

    def add_error(self, batch: Batch, message: str, attempt: int, facts: Mapping[str, Any] | None = None) -> None:
        """Put the engine's message on the `error` pin into `batch`, behind all that the block yields.

        Its number is outside the block's: if the run is retried, the block continues where its own outputs stopped.
        `facts`: what links may select besides the message (`ERROR_FACTS`); needed where `selects_from_error`.
        """
        selectable = {**(facts or {}), "message": message}
        self._add(batch, ERROR_ORDINALS + attempt, ERROR_PIN, selectable, dumps(message))

    def _add(self, batch: Batch, ordinal: int, pin: str, value: Any, text: str) -> None:
        """`value`: what links with a selector look into; `text`: what the others carry."""
        batch._store(ordinal, 0, pin, text)
        links = self._by_base.get(pin) or self._by_base.get(base_name(pin))
        if links is None:
            return
        if self._plain.get(pin, False):
            for link in links:
                batch._route(ordinal, 0, link)
        else:
            _route_selected(batch, ordinal, pin, value, links)


def _route_selected(batch: Batch, ordinal: int, pin: str, value: Any, links: list[PlanLink]) -> None:
    parts: dict[str, int | None] = {}  # selector → part; None: the value has no such part, the link does not fire
    for link in links:
        if link.source_pin == pin:
            batch._route(ordinal, 0, link)
            continue
        if link.source_pin not in parts:
            found, selected = select(link.source_pin, pin, value)
            parts[link.source_pin] = part = 1 + sum(p is not None for p in parts.values()) if found else None
            if part is not None:
                batch._store(ordinal, part, link.source_pin, dumps(selected))
        part = parts[link.source_pin]
        if part is not None:
            batch._route(ordinal, part, link)


class Routes(NamedTuple):
    """Where the outputs of a batch go, as parallel columns: `agentflow_settle` takes them so.

    Attributes:
        ordinals, parts: which output.
        sinks, pins: to which node and pin.
        statics: the pin keeps its value.
        needs, bases, sticky_sinks: what placing must know of the sink (`storage/hot/sql/04_place.sql`).
    """

    ordinals: list[int]
    parts: list[int]
    sinks: list[int]
    pins: list[str]
    statics: list[bool]
    needs: list[int]
    bases: list[int]
    sticky_sinks: list[bool]


def routes_of(plan: Plan, batch: Batch) -> Routes:
    """The routes of `batch`."""
    links = batch.route_links
    sinks = [plan.nodes[link.sink] for link in links]
    return Routes(
        batch.route_ordinals,
        batch.route_parts,
        [link.sink for link in links],
        [link.sink_pin for link in links],
        [link.static for link in links],
        [sink.need for sink in sinks],
        [sink.base_of(link.sink_pin) for sink, link in zip(sinks, links, strict=True)],
        [sink.has_static for sink in sinks],
    )
