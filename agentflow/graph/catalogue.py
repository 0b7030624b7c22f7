"""Declares what the graph must know about blocks.

The graph is checked and compiled without importing any block: the caller passes a `Catalogue`, a function from block
id to `BlockSpec`. This module declares shapes only; it must not look anything up.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from agentflow.graph.costs import Cost
from agentflow.graph.settings import RetryPolicy

ERROR_PIN: Final = "error"
"""The output pin that every block has, declared or not. It carries the message of a failure."""


ERROR_FACTS: Final = ("message", "node", "title", "block", "index", "attempt", "reason", "inputs")
"""Facts that links may select from the error pin (`error_#_inputs`). The pin's own value is the message, a text."""


HOST_SCOPED: Final = "host_scoped"
"""The type of a credential that holds headers for one site, whatever its name."""


class BlockKind(StrEnum):
    """The kind of a block. The values are those of `uiType` in a block's public description."""

    STANDARD = "Standard"
    INPUT = "Input"  # carries one input of the graph
    OUTPUT = "Output"  # carries one output of the graph
    NOTE = "Note"  # a remark for people; never runs
    WEBHOOK = "Webhook"  # fed by a webhook that is registered at a provider for the user
    WEBHOOK_MANUAL = "Webhook (manual)"  # fed by a webhook that the user registers
    AGENT = "Agent"  # runs another graph as a child run
    AI = "AI"
    AYRSHARE = "Ayrshare"
    HUMAN_IN_THE_LOOP = "Human In The Loop"  # waits for a person
    MCP_TOOL = "MCP Tool"


class Dependence(StrEnum):
    """What a block's result depends on besides its inputs, tools and credentials."""

    MEMORY = "memory"  # values that blocks keep between runs
    TIME = "time"
    CHANCE = "chance"
    OUTSIDE = "outside"  # another service, a file elsewhere or a person, whether read or acted on
    GRAPH = "graph"  # the node's graph and its place in it
    LINKS = "links"  # which of its output pins are linked


CHANGES: Final = frozenset({Dependence.MEMORY, Dependence.TIME, Dependence.CHANCE, Dependence.OUTSIDE})
"""Dependences under which a result may differ although everything that the engine can compare is equal."""


@dataclass(frozen=True, slots=True)
class PinSpec:
    """One declared pin of a block.

    Attributes:
        name: the pin's name, without dynamic parts.
        annotation: the Python type annotation of the pydantic field; values are coerced to it.
        required: whether a value must be given (by a link, a literal, a mask or a run input).
        default: the value used if none is given; None for a required pin.
        secret: whether its value must never be exported, logged or shown.
        schema: its JSON Schema.
    """

    name: str
    annotation: Any = Any
    required: bool = False
    default: Any = None
    secret: bool = False
    schema: Mapping[str, Any] = field(default_factory=dict)


Provider = Callable[[Mapping[str, Any], Collection[str]], str | None]
"""Derives the provider whose credential a block needs at a node, from the values given by pin and from the pins whose
values come later. None: it cannot be derived, and any provider of the credentials pin will do."""


def any_provider(given: Mapping[str, Any], later: Collection[str]) -> str | None:
    """The `Provider` of a block that leaves the choice to its credentials pin."""
    return None


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """What the graph must know about one block.

    Attributes:
        id: the block's id (a UUID as text), which nodes refer to.
        name: its name, for people.
        kind: the kind of block.
        inputs: its input pins, by name.
        outputs: its output pins, by name; always contains `error`.
        static_output: whether every link out of it is static (its last value stays).
        enabled: whether graphs may use it.
        lane: the workers' queue for its node executions, unless the node names one.
        timeout: seconds that an attempt may run, unless the node says; None: the installation's default.
        retry: its retry policy, unless the node or the graph has one; None: no retries.
        costs: what a node execution costs: the first that matches its inputs counts; none: nothing.
        depends_on: what its result depends on besides its inputs.
        cacheable: whether `settings.cache` may reuse its earlier outputs.
        gathers: the pin whose values it gathers from many executions into one list (`worker/gathering.py`); None: it
            takes each value by itself.
        for_each: output pins on which it yields any number of values, one per item. If there are no items, a gather
            downstream gives an empty list.
        feedback: input pins that bring back, in a loop, the results of its earlier executions (`graph/feedback.py`).
        former_inputs: former name → present name of input pins.
        former_outputs: former name → present name of output pins.
        waits: whether its work is done while it waits: by a person, a clock or another run.
        provider: derives the provider of its credential where the credentials pin names none.
        categories: upper-case words under which it is listed.
        description: for people, and for models that call it as a tool.
    """

    id: str
    name: str
    kind: BlockKind
    inputs: Mapping[str, PinSpec]
    outputs: Mapping[str, PinSpec]
    static_output: bool = False
    enabled: bool = True
    lane: str = "default"
    timeout: float | None = None
    retry: RetryPolicy | None = None
    costs: tuple[Cost, ...] = ()
    depends_on: frozenset[Dependence] = frozenset()
    cacheable: bool = True
    gathers: str | None = None
    for_each: tuple[str, ...] = ()
    feedback: tuple[str, ...] = ()
    former_inputs: Mapping[str, str] = field(default_factory=dict)
    former_outputs: Mapping[str, str] = field(default_factory=dict)
    waits: bool = False
    provider: Provider = any_provider
    categories: tuple[str, ...] = ()
    description: str = ""

    def takes_credential(self, provider: str, type: str | None) -> bool:
        """Whether one of its pins takes a credential of this provider and type (None: of any type)."""
        return any(takes_credential(pin, provider, type) for pin in self.inputs.values())


def takes_credential(pin: PinSpec, provider: str, type: str | None) -> bool:
    """Whether `pin` takes a credential: one of a provider that it names, or any host-scoped one if it takes those.

    Args:
        pin: the pin.
        provider: the credential's provider, in lower case.
        type: the credential's type; None if unknown.
    """
    providers, types = pin.schema.get("credentials_provider") or (), pin.schema.get("credentials_types") or ()
    if provider in providers:
        return type is None or type in types
    return type == HOST_SCOPED and HOST_SCOPED in types


Catalogue = Callable[[str], BlockSpec | None]
"""Looks up a block by its id; None if there is no such block."""
