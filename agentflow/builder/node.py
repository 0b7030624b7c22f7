"""What is a node to a program? A handle with its pins as attributes.

What the handle itself can do has names that begin with `node_`, so that the pins have all others. A pin whose name is
no Python name is had by `node["its name"]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agentflow.builder.faults import no_such_pin
from agentflow.builder.pins import Pin
from agentflow.graph import model
from agentflow.graph.catalogue import BlockSpec, PinSpec
from agentflow.graph.pins import base_name
from agentflow.graph.settings import NodeSettings
from agentflow.graph.wiring import input_pins, output_pins

if TYPE_CHECKING:
    from agentflow.builder.draft import Draft


class Node:
    """One node of a graph that is being built; made by `Graph.add`.

    Attributes:
        node_id: its id in the graph.
    """

    __slots__ = ("_graph", "node_id")

    def __init__(self, graph: Draft, node_id: str) -> None:
        self._graph = graph
        self.node_id = node_id

    @property
    def node_title(self) -> str | None:
        """What people are shown instead of the block's name."""
        return self._document.title

    @node_title.setter
    def node_title(self, title: str) -> None:
        metadata = {**self._document.metadata, "customized_name": title}
        self._graph._replace(self.node_id, metadata=metadata)

    @property
    def node_settings(self) -> NodeSettings:
        """How it is run. Set as a mapping: `node.node_settings = {"timeout": 5}`."""
        return self._document.settings

    @node_settings.setter
    def node_settings(self, settings: Mapping[str, Any]) -> None:
        self._graph._replace(self.node_id, settings=self._graph._node_settings(self.node_id, settings))

    @property
    def node_values(self) -> dict[str, Any]:
        """The literals that it is given, by pin; a copy."""
        return dict(self._document.input_default)

    @property
    def node_block(self) -> BlockSpec | None:
        """Its block; None where that is not here."""
        return self._graph._spec(self._document.block_id)

    def __getattr__(self, name: str) -> Pin:
        if name.startswith("_"):  # protocols of Python (copying, pickling, completion) ask for such names
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Pin:
        """The pin of that name, input or output; a dynamic one too (`values_#_key`).

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
        """Give an input pin a value: a literal, another pin, or a container of both."""
        self._graph._give(self, {name: value})

    __iter__ = None
    """A node is no sequence of pins."""

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
        """The pins that links may leave from ("output"), lead to ("input"), or that may have a literal ("literal").

        None where the block is not here: then nobody knows.
        """
        spec = self.node_block
        if spec is None:
            return None
        if sort == "output":
            return output_pins(self._document, spec)
        linkable = input_pins(self._document, spec)
        return linkable if sort == "input" else {**linkable, **spec.inputs}
