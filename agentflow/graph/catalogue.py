"""What must the graph know about blocks?

The graph is checked and compiled without importing a single block: whoever calls hands in a `Catalogue`,
a function from block id to `BlockSpec`. This module only declares the shapes; it must not look anything up.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from agentflow.graph.settings import RetryPolicy

ERROR_PIN: Final = "error"
"""The output pin that every block has, declared or not: the message of a failure goes out on it."""


ERROR_FACTS: Final = ("message", "node", "title", "block", "index", "attempt", "reason", "inputs")
"""What links may select from the error pin (`error_#_inputs`). The pin itself gives the message, a text."""


HOST_SCOPED: Final = "host_scoped"
"""The type of a credential that is headers for one site, whatever its name is."""


class BlockKind(StrEnum):
    """What sort of block it is: the values are those of `uiType` in a block's public description."""

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
    """What a block's result depends on besides its inputs, its tools, and the credentials that its pins take."""

    MEMORY = "memory"  # what blocks keep between runs
    TIME = "time"
    CHANCE = "chance"
    OUTSIDE = "outside"  # another service, a file elsewhere, a person; reading it or acting on it
    GRAPH = "graph"  # in which graph, and where in it, the node stands
    LINKS = "links"  # which of its output pins are linked


CHANGES: Final = frozenset({Dependence.MEMORY, Dependence.TIME, Dependence.CHANCE, Dependence.OUTSIDE})
"""What may be another with everything that the engine can compare being the same."""


@dataclass(frozen=True, slots=True)
class PinSpec:
    """One declared pin of a block.

    Attributes:
        name: the pin's name, without dynamic parts.
        annotation: the Python type annotation of the pydantic field; values are coerced to it.
        required: whether a value must be given (by a link, a literal, a mask or a run input).
        default: what stands in where nothing is given; None for a required pin.
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
"""Whose credential a block asks for at a node: from what the node is given, by pin, and the pins whose values come
later. None: that cannot be told, and it may be any that its credentials pin takes."""


def any_provider(given: Mapping[str, Any], later: Collection[str]) -> str | None:
    """The `Provider` of a block that leaves it to its credentials pin."""
    return None


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """What the graph must know about one block.

    Attributes:
        id: the block's id (a UUID as text), by which nodes name it.
        name: its name, for people.
        kind: what sort of block it is.
        inputs: its input pins, by name.
        outputs: its output pins, by name; always contains `error`.
        static_output: whether every link out of it is static (its last value stays).
        enabled: whether graphs may use it.
        lane: the workers' queue that its node executions go to, where the node does not say.
        timeout: seconds that an attempt may run, where the node does not say; None: as the installation's settings say.
        retry: when a failed attempt is made again, where neither node nor graph says; None: never.
        cost: credits that a node execution costs.
        depends_on: what its result depends on besides its inputs.
        cacheable: whether `settings.cache` may give again what it gave before.
        gathers: the pin whose values it gathers, of many executions into one list (`worker/gathering.py`); None: it
            takes each by itself.
        for_each: output pins on which it gives any number of values, one an item. Where there is no item, a gather
            behind them gives an empty list.
        feedback: input pins that bring back, in a loop, what an earlier execution set in motion (`graph/feedback.py`).
        former_inputs: what its input pins were called in earlier versions → what they are called now.
        former_outputs: likewise of its output pins.
        waits: its work is done while it waits, by a person, a clock, another run.
        provider: whose credential it asks for, where its credentials pin names nobody.
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
    cost: int = 0
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
        """Whether a pin declares that it takes the credential `provider`, which is of that type (None: of any)."""
        return any(takes_credential(pin, provider, type) for pin in self.inputs.values())


def takes_credential(pin: PinSpec, provider: str, type: str | None) -> bool:
    """Whether `pin` takes a credential: one of a provider that it names, or a host's, if it takes those.

    Args:
        pin: the pin.
        provider: the credential's name, in lower case.
        type: the credential's; None: it does not say.
    """
    providers, types = pin.schema.get("credentials_provider") or (), pin.schema.get("credentials_types") or ()
    if provider in providers:
        return type is None or type in types
    return type == HOST_SCOPED and HOST_SCOPED in types


Catalogue = Callable[[str], BlockSpec | None]
"""Looks a block up by its id; None: there is no such block."""
