"""Makes random graphs together with what they must give.

A graph grows by *streams*: the values that leave one pin, in their order. Each piece (a for-each, a timer, a review, a
child run, a gather, …) turns one stream or two into new ones, and says by plain Python what they hold. What is left
open at the end becomes an output. The order of every output is fixed: each pin is fed by one node.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final
from uuid import UUID

from fleet import graph, link, node

MAX_VALUES: Final = 120
"""Of one stream; far above the window that the workers of a chaos run have."""

EVENT: Final = "go"
"""The name of the events that graphs wait for."""

_LOSSES: Final = 1000
"""Leases that may be lost: here workers die faster than any installation's do."""

_RETRY: Final = {"max_failures": 1000, "base": 0.1, "cap": 0.5}


@dataclass(frozen=True, slots=True)
class Stream:
    """The values that leave one pin, in their order."""

    pin: str
    values: Sequence[str]


@dataclass(slots=True)
class Draft:
    """A graph in the making.

    Attributes:
        rng: where its chance comes from.
        push: stores a sub-graph and gives its id; None in a sub-graph, which has none of its own.
        open: the streams that nothing takes yet.
        misbehaves: blocks of the scenarios may be in it, which sleep and fail.
        events: external events that the run waits for.
        reordered_by_retry: whether a retry of the cancelled run may pair values anew.
    """

    rng: Random
    push: Callable[[dict[str, Any]], UUID] | None
    misbehaves: bool = True
    nodes: list[dict[str, Any]] = field(default_factory=list)
    links: list[dict[str, Any]] = field(default_factory=list)
    open: list[Stream] = field(default_factory=list)
    outputs: dict[str, list[Any]] = field(default_factory=dict)
    events: int = 0
    reordered_by_retry: bool = False

    def add(self, block: str, settings: dict[str, Any] | None = None, /, **defaults: Any) -> str:
        """Add a node; its id."""
        name = f"n{len(self.nodes)}"
        self.nodes.append(node(name, block, settings, **defaults))
        return name

    def feed(self, stream: Stream, sink: str) -> None:
        """Link a stream to `node:pin`."""
        self.links.append(link(stream.pin, sink))

    def take(self) -> Stream:
        """A stream to go on from: now and then one that others take too."""
        chosen = self.rng.randrange(len(self.open))
        return self.open[chosen] if self.rng.random() < 0.15 else self.open.pop(chosen)

    def limits(self) -> dict[str, Any]:
        """Settings that hold node executions back without changing what they give."""
        some: dict[str, Any] = {}
        if self.rng.random() < 0.2:
            some["concurrency"] = {"key": f"c{self.rng.randrange(3)}", "limit": self.rng.randint(1, 3)}
        if self.rng.random() < 0.1:
            some["rate_limit"] = {"key": f"r{self.rng.randrange(3)}", "per_second": self.rng.choice([20, 50, 200])}
        if self.rng.random() < 0.1:
            some["priority"] = self.rng.randint(0, 9)
        return some

    def document(self, **settings: Any) -> dict[str, Any]:
        """The graph, every open stream an output of its own."""
        for stream in self.open:
            name = f"o{len(self.outputs)}"
            self.feed(stream, f"{self.add('AgentOutput', name=name)}:value")
            self.outputs[name] = list(stream.values)
        self.open = []
        return graph(self.nodes, self.links, max_losses=_LOSSES, **settings)


def _template(draft: Draft, pattern: str) -> str:
    return draft.add("FillTextTemplate", draft.limits(), format=pattern)


def _items(draft: Draft) -> None:
    """A for-each over a list that stands in the graph."""
    count = draft.rng.choice([1, 3, 10, 40])
    values = [f"v{number}" for number in range(count)]
    each = draft.add("StepThroughItems", items=values)
    draft.open.append(Stream(f"{each}:item", values))


def _text(draft: Draft) -> None:
    """A text made of each value."""
    stream = draft.take()
    fill = _template(draft, "{{v}}x")
    draft.feed(stream, f"{fill}:values_#_v")
    draft.open.append(Stream(f"{fill}:output", [f"{value}x" for value in stream.values]))


def _sleep(draft: Draft) -> None:
    """Some time with each value, for something to die in."""
    if not draft.misbehaves:
        _text(draft)
        return
    stream = draft.take()
    sleep = draft.add("TestSleep", draft.limits(), seconds=draft.rng.choice([0.0, 0.02, 0.1]))
    draft.feed(stream, f"{sleep}:value")
    draft.open.append(Stream(f"{sleep}:value", stream.values))


def _flaky(draft: Draft) -> None:
    """A block that fails after its first output, and is tried again."""
    if not draft.misbehaves:
        _text(draft)
        return
    stream = draft.take()
    if 2 * len(stream.values) > MAX_VALUES:
        draft.open.append(stream)
        return
    flaky = draft.add("TestFail", {"retry": _RETRY}, kind="transient", times=1)
    draft.feed(stream, f"{flaky}:value")
    draft.open.append(Stream(f"{flaky}:value", [out for value in stream.values for out in ("before", value)]))


def _nested(draft: Draft) -> None:
    """A for-each in the for-each."""
    stream, width = draft.take(), draft.rng.randint(0, 3)
    if width * len(stream.values) > MAX_VALUES:
        draft.open.append(stream)
        return
    fill = _template(draft, "[" + ", ".join(f'"{{{{v}}}}{number}"' for number in range(width)) + "]")
    each = draft.add("StepThroughItems")
    draft.feed(stream, f"{fill}:values_#_v")
    draft.links.append(link(f"{fill}:output", f"{each}:items_str"))
    values = [f"{value}{number}" for value in stream.values for number in range(width)]
    draft.open.append(Stream(f"{each}:item", values))


def _timer(draft: Draft) -> None:
    """A wait for the time."""
    stream = draft.take()
    timer = draft.add("CountdownTimer", draft.limits(), seconds=draft.rng.choice([0, 0.3, 2]))
    draft.feed(stream, f"{timer}:input_message")
    draft.open.append(Stream(f"{timer}:output_message", stream.values))


def _review(draft: Draft) -> None:
    """A wait for a person, who approves."""
    stream = draft.take()
    review = draft.add("HumanInTheLoop", name="value")
    draft.feed(stream, f"{review}:data")
    draft.open.append(Stream(f"{review}:approved_data", stream.values))


def _event(draft: Draft) -> None:
    """A wait for an external event."""
    stream = draft.take()
    event = draft.add("WaitForEvent", name=EVENT)
    draft.feed(stream, f"{event}:value")
    draft.events += len(stream.values)
    draft.open.append(Stream(f"{event}:value", stream.values))


def _static(draft: Draft) -> None:
    """A second pin with one value for all."""
    stream = draft.take()
    word = draft.add("AgentInput", name=f"word{len(draft.nodes)}", value="w")
    fill = _template(draft, "{{v}}{{w}}")
    draft.feed(stream, f"{fill}:values_#_v")
    draft.links.append(link(f"{word}:result", f"{fill}:values_#_w"))
    draft.open.append(Stream(f"{fill}:output", [f"{value}w" for value in stream.values]))


def _pairs(draft: Draft) -> None:
    """The k-th value of one stream meets the k-th of another."""
    if len(draft.open) < 2:
        _text(draft)
        return
    one, other = draft.open.pop(), draft.open.pop()
    fill = _template(draft, "{{a}}-{{b}}")
    draft.feed(one, f"{fill}:values_#_a")
    draft.feed(other, f"{fill}:values_#_b")
    values = [f"{a}-{b}" for a, b in zip(one.values, other.values, strict=False)]
    draft.open.append(Stream(f"{fill}:output", values))
    draft.reordered_by_retry = True


def _branch(draft: Draft) -> None:
    """A condition with two ways out: what is equal goes on, for what is not the value that was wanted does."""
    stream = draft.take()
    wanted = draft.rng.choice(stream.values) if stream.values else "v"
    choose = draft.add("Condition", operator="==", value2=wanted)
    draft.feed(stream, f"{choose}:value1")
    draft.open.append(Stream(f"{choose}:yes_output", [value for value in stream.values if value == wanted]))
    draft.open.append(Stream(f"{choose}:no_output", [wanted for value in stream.values if value != wanted]))


def _gather(draft: Draft) -> None:
    """All values, or so many at a time, as one."""
    stream, size = draft.take(), draft.rng.choice([None, 2, 7])
    if not stream.values:  # whether a gather of nothing gives an empty list depends on what lies before it
        draft.open.append(stream)
        return
    gather = draft.add("Gather", **({"size": size} if size else {}))
    join = _template(draft, "{{v|join('+')}}")
    draft.feed(stream, f"{gather}:item")
    draft.links.append(link(f"{gather}:items", f"{join}:values_#_v"))
    step = size or len(stream.values)
    values = ["+".join(stream.values[first : first + step]) for first in range(0, len(stream.values), step)]
    draft.open.append(Stream(f"{join}:output", values))
    draft.reordered_by_retry = True


def _child(draft: Draft) -> None:
    """A child run a value: what it gives depends on the value only."""
    stream = draft.take()
    if draft.push is None or not 1 <= len(stream.values) <= 15:
        draft.open.append(stream)
        return
    seed = draft.rng.getrandbits(32)
    document, _ = _sub_graph(seed, "q", draft.misbehaves)
    schema = {"properties": {"q": {}}}
    gives = [_sub_graph(seed, value, draft.misbehaves)[1] for value in stream.values]
    names = sorted({name for outputs in gives for name in outputs})
    sub = draft.add(
        "AgentExecutor",
        graph_id=str(draft.push(document)),
        graph_version=1,
        input_schema=schema,
        output_schema={"properties": {name: {} for name in names}},
    )
    draft.feed(stream, f"{sub}:q")
    for name in names:
        values = [value for outputs in gives for value in outputs[name]]
        draft.open.append(Stream(f"{sub}:{name}", values[:]))


def _sub_graph(seed: int, value: str, misbehaves: bool) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The same graph for the same seed, with what it gives for a value."""
    draft = Draft(Random(seed), None, misbehaves)
    draft.open.append(Stream(f"{draft.add('AgentInput', name='q')}:result", [value]))
    for _ in range(draft.rng.randint(1, 4)):
        draft.rng.choice(_IN_A_CHILD)(draft)
    return draft.document(), draft.outputs


_IN_A_CHILD: Final = (_text, _text, _sleep, _nested, _timer, _static)
_PIECES: Final = (
    _items, _text, _sleep, _flaky, _nested, _nested, _timer, _review, _event, _static, _pairs, _branch, _gather, _child,
)  # fmt: skip


def random_graph(
    seed: int, push: Callable[[dict[str, Any]], UUID], *, misbehaves: bool = True
) -> tuple[dict[str, Any], Draft]:
    """A graph, and what it must give: `draft.outputs`, {name: values in order}."""
    draft = Draft(Random(seed), push, misbehaves)
    _items(draft)
    for _ in range(draft.rng.randint(2, 7)):
        draft.rng.choice(_PIECES)(draft)
    return draft.document(), draft
