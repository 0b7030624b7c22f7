"""Defines the nodes and links of a plan, and the JSON in which they are stored."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentflow.graph.catalogue import BlockKind
from agentflow.graph.settings import NodeSettings


@dataclass(frozen=True, slots=True)
class PlanLink:
    """One link. `source` and `sink` are node numbers; `number` is its position among the graph's links.

    `static`: the last value that it delivered stays. A link from a tool pin feeds exactly one sink: its `source_pin`
    is always the full name, `tools_^_{sink node id}_~_{sink pin}`.
    """

    number: int
    source: int
    source_pin: str
    sink: int
    sink_pin: str
    static: bool


@dataclass(frozen=True, slots=True)
class PlanNode:
    """One node, ready to run.

    Attributes:
        number: its position among the graph's nodes.
        id: its id in the document.
        block_id: the id of its block; `block_name` and `kind` are that block's name and kind.
        title: its name for people: the author's, else the block's.
        input_default: its literals, by pin (dynamic pins too).
        settings: its effective settings: its own over the graph's.
        pins: the linked pins that it waits for, as written → whether one of their links is static.
        base: the lowest index that a delivery may go to: 1, or 2 for a linked input node, which starts as index 1.
            A feedback pin's is 2: see `base_of`.
        links: the links that its outputs fire, in the order of the document.
        handles_errors: whether a link leaves its `error` pin; its failure then does not fail the run.
        starts: whether it is QUEUED when the run starts.
        name: the external name of an input or output node; None for other nodes.
        lane: the workers' queue that it goes to: the node's, else the block's.
        timeout: seconds that an attempt may run: the node's, else the block's; None: the installation's default.
        gathers: the pin whose values it gathers into lists; None: it takes each value by itself.
        for_each: the pins on which it yields any number of values, one per item.
        feedback: the pins that its first execution does not wait for (`graph/feedback.py`).
        credentials_optional: whether it gives nothing, and does not fail, where a credential is missing.
    """

    number: int
    id: str
    block_id: str
    block_name: str
    kind: BlockKind
    title: str
    input_default: dict[str, Any]
    settings: NodeSettings
    pins: Mapping[str, bool]
    base: int
    links: tuple[PlanLink, ...]
    handles_errors: bool
    starts: bool
    name: str | None
    lane: str = "default"
    timeout: float | None = None
    gathers: str | None = None
    for_each: tuple[str, ...] = ()
    feedback: tuple[str, ...] = ()
    credentials_optional: bool = False
    has_static: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "has_static", any(self.pins.values()))

    @property
    def ordered(self) -> bool:
        """Whether the outputs of execution k go out before those of k + 1."""
        return bool(self.links) and self.settings.ordering == "ordered"

    @property
    def need(self) -> int:
        """How many pins must have a value."""
        return len(self.pins)

    @property
    def first_need(self) -> int:
        """How many pins must have a value for its first execution."""
        return len(self.awaited(1))

    def awaited(self, idx: int) -> list[str]:
        """The pins that must have a value for its execution `idx`."""
        return [pin for pin in self.pins if idx >= self.base_of(pin)]

    def base_of(self, pin: str) -> int:
        """The lowest index that a value on this pin may go to."""
        return 2 if pin in self.feedback else self.base


def node_row(node: PlanNode, table: dict[str, int]) -> dict[str, Any]:
    """`node` as JSON. Its settings become a number, which `table` assigns to their JSON text."""
    settings = table.setdefault(node.settings.model_dump_json(), len(table))
    return {
        "id": node.id,
        "block_id": node.block_id,
        "block_name": node.block_name,
        "kind": node.kind.value,
        "title": node.title,
        "input_default": node.input_default,
        "settings": settings,
        "pins": dict(node.pins),
        "base": node.base,
        "links": [[link.number, link.source_pin, link.sink, link.sink_pin, link.static] for link in node.links],
        "handles_errors": node.handles_errors,
        "starts": node.starts,
        "name": node.name,
        "lane": node.lane,
        "timeout": node.timeout,
        "gathers": node.gathers,
        "for_each": node.for_each,
        "feedback": node.feedback,
        "credentials_optional": node.credentials_optional,
    }


def node_of(number: int, row: dict[str, Any], settings: list[NodeSettings]) -> PlanNode:
    """Reads what `node_row` wrote."""
    links = tuple(
        PlanLink(link, number, source_pin, sink, sink_pin, static)
        for link, source_pin, sink, sink_pin, static in row["links"]
    )
    rest = {**row, "kind": BlockKind(row["kind"]), "settings": settings[row["settings"]], "links": links}
    rest |= {key: tuple(row[key]) for key in ("for_each", "feedback")}
    return PlanNode(number=number, **rest)
