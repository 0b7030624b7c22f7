"""What is at the end of a link? A pin of a node, or a place inside the list or dictionary that the pin carries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentflow.builder.faults import fault
from agentflow.graph.pins import Step, split

if TYPE_CHECKING:
    from agentflow.builder.node import Node


@dataclass(frozen=True, slots=True)
class Pin:
    """A pin. `a.result >> b.value` links two of them.

    `pin["key"]` is an entry of a dictionary, `pin[0]` an item of a list, `pin.attr("name")` an attribute of an
    object. On the left of a link they select from an output; on its right they build the container up.

    Attributes:
        node: the node that it belongs to.
        name: as a graph's document has it: `values`, `values_#_key`, `values_$_0`.
    """

    node: Node
    name: str

    def __getitem__(self, part: str | int) -> Pin:
        return Pin(self.node, inside(self.name, part, self.node.node_id))

    __iter__ = None
    """Indexing would make endless iterators of pins."""

    def attr(self, name: str) -> Pin:
        """The attribute `name` of the object that the pin carries."""
        return Pin(self.node, _joined(self.name, Step("@", name), self.node.node_id))

    def __rshift__(self, sink: Pin) -> Pin:
        return self.to(sink)

    def to(self, sink: Pin, *, static: bool | None = None) -> Pin:
        """Link this output pin to an input pin; returns the latter.

        Args:
            sink: the pin that takes the values.
            static: whether the last value stays at the sink for its later executions; None: as the block has it.

        Raises:
            NoSuchPin: one of them is a pin, but not an output (or input) pin.
            GraphInvalid: they belong to different graphs, or a note is involved.
        """
        self.node._graph.link(self, sink, static=static)
        return sink

    def __repr__(self) -> str:
        return f"<pin {self.name} of {self.node.node_id}>"


def inside(name: str, part: Any, node_id: str) -> str:
    """The name of the place `part` in what the pin `name` carries.

    Raises:
        GraphInvalid: no name can be made of it; says why.
    """
    if isinstance(part, int) and not isinstance(part, bool):
        if part < 0:
            raise fault(f"pin {name!r}: a list is counted from 0 on, so {part} is no index", node_id, name)
        return _joined(name, Step("$", str(part)), node_id)
    if not isinstance(part, str):
        raise fault(f"pin {name!r}: an index or a key is needed, not {part!r}", node_id, name)
    return _joined(name, Step("#", part), node_id)


def _joined(name: str, step: Step, node_id: str) -> str:
    joined = f"{name}_{step.kind}_{step.part}"
    base, steps = split(name)
    if not step.part or split(joined) != (base, (*steps, step)):
        raise fault(
            f"pin {name!r}: {step.part!r} cannot be part of a pin's name (it is empty, or would be read as several "
            "parts); link the whole container instead",
            node_id,
            name,
        )
    return joined
