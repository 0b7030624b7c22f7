"""Provides the handles of a graph that is being built: `Node`, with its pins as attributes, and `Pin`.

The handle's own attributes begin with `node_`, so that all other names are free for pins. A pin whose name is no Python
name is reached by `node["its name"]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from agentflow.builder.faults import fault, no_such_pin
from agentflow.graph import model
from agentflow.graph.catalogue import BlockSpec, PinSpec
from agentflow.graph.pins import Step, base_name, split
from agentflow.graph.settings import NodeSettings
from agentflow.graph.wiring import input_pins, output_pins


class Holder(Protocol):
    """What handles need of the graph that they belong to; `Draft` has it."""

    def link(self, source: Pin, sink: Pin, *, static: bool | None = None) -> None: ...
    def _spec(self, block_id: str) -> BlockSpec | None: ...
    def _node(self, node_id: str) -> model.Node: ...
    def _replace(self, node_id: str, **changes: Any) -> None: ...
    def _give(self, node: Node, given: Mapping[str, Any]) -> None: ...
    def _node_settings(self, node_id: str, settings: Mapping[str, Any]) -> NodeSettings: ...


@dataclass(frozen=True, slots=True)
class Pin:
    """A pin. `a.result >> b.value` links two of them.

    `pin["key"]` is an entry of a dictionary, `pin[0]` an item of a list, `pin.attr("name")` an attribute of an
    object. On the left of a link they select from an output; on its right they build a container.

    Attributes:
        node: the node that it belongs to.
        name: its name in a graph's document: `values`, `values_#_key`, `values_$_0`.
    """

    node: Node
    name: str

    def __getitem__(self, part: str | int) -> Pin:
        return Pin(self.node, inside(self.name, part, self.node.node_id))

    __iter__ = None
    """Prevents iteration: indexing never fails, so it would not end."""

    def attr(self, name: str) -> Pin:
        """The attribute `name` of the object that the pin carries."""
        return Pin(self.node, _joined(self.name, Step("@", name), self.node.node_id))

    def __rshift__(self, sink: Pin) -> Pin:
        return self.to(sink)

    def to(self, sink: Pin, *, static: bool | None = None) -> Pin:
        """Link this output pin to an input pin, and return the input pin.

        Args:
            sink: the pin that takes the values.
            static: whether the last value stays at the sink for its later executions; None: as the block declares.

        Raises:
            NoSuchPin: this is no output pin, or `sink` no input pin.
            GraphInvalid: the pins belong to different graphs, or one of them to a note.
        """
        self.node._graph.link(self, sink, static=static)
        return sink

    def __repr__(self) -> str:
        return f"<pin {self.name} of {self.node.node_id}>"


class Node:
    """One node of a graph that is being built; made by `Graph.add`.

    Attributes:
        node_id: its id in the graph.
    """

    __slots__ = ("_graph", "node_id")

    def __init__(self, graph: Holder, node_id: str) -> None:
        self._graph = graph
        self.node_id = node_id

    @property
    def node_title(self) -> str | None:
        """The title shown to people instead of the block's name."""
        return self._document.title

    @node_title.setter
    def node_title(self, title: str) -> None:
        metadata = {**self._document.metadata, "customized_name": title}
        self._graph._replace(self.node_id, metadata=metadata)

    @property
    def node_settings(self) -> NodeSettings:
        """The node's settings. Assign a mapping: `node.node_settings = {"timeout": 5}`."""
        return self._document.settings

    @node_settings.setter
    def node_settings(self, settings: Mapping[str, Any]) -> None:
        self._graph._replace(self.node_id, settings=self._graph._node_settings(self.node_id, settings))

    @property
    def node_values(self) -> dict[str, Any]:
        """A copy of its literals, by pin."""
        return dict(self._document.input_default)

    @property
    def node_block(self) -> BlockSpec | None:
        """Its block; None if that is not available here."""
        return self._graph._spec(self._document.block_id)

    def __getattr__(self, name: str) -> Pin:
        if name.startswith("_"):  # Python's protocols (copying, pickling, completion) look up such names
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Pin:
        """The input or output pin of that name, dynamic ones included (`values_#_key`).

        Raises:
            NoSuchPin: the block has neither.
        """
        if not isinstance(name, str):
            raise TypeError(f"a pin of the node {self.node_id!r} is had by its name, not by {name!r}")
        inputs, outputs = self._pins("literal"), self._pins("output")
        if inputs is not None and outputs is not None and base_name(name) not in inputs.keys() | outputs.keys():
            takes, gives = ", ".join(inputs) or "nothing", ", ".join(outputs) or "nothing"
            error = no_such_pin(self._told, "pin", base_name(name), {**inputs, **outputs}, self.node_id)
            error.args = (f"{error.message.rpartition(';')[0]}; it takes: {takes}; it gives: {gives}",)
            raise error
        return Pin(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        """Give an input pin a literal, another pin, or a container of both."""
        self._graph._give(self, {name: value})

    __iter__ = None
    """Prevents iteration: a node is no sequence of pins."""

    def __dir__(self) -> list[str]:
        pins = {**(self._pins("literal") or {}), **(self._pins("output") or {})}
        return sorted({*object.__dir__(self), *pins})

    def __repr__(self) -> str:
        return f"<node {self._told}>"

    @property
    def _document(self) -> model.Node:
        return self._graph._node(self.node_id)

    @property
    def _told(self) -> str:
        """Block and node, for messages."""
        spec = self.node_block
        return f"{spec.name if spec else self._document.block_id} ({self.node_id!r})"

    def _pins(self, sort: str) -> Mapping[str, PinSpec] | None:
        """The pins that links may leave from ("output") or lead to ("input"), or that may have a literal ("literal").

        None if the block is not available here, so that its pins are unknown.
        """
        spec = self.node_block
        if spec is None:
            return None
        if sort == "output":
            return output_pins(self._document, spec)
        linkable = input_pins(self._document, spec)
        return linkable if sort == "input" else {**linkable, **spec.inputs}


def inside(name: str, part: Any, node_id: str) -> str:
    """The name of the place `part` inside the container that the pin `name` carries.

    Raises:
        GraphInvalid: `part` cannot be part of a name; the message says why.
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
