"""Holds a graph while it is being built: its document, and handles to its nodes.

Everything is kept in one `graph.model.Graph`. Each change is checked before it is made (`drawing`), and is made as a
whole or not at all.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Self
from uuid import UUID

from pydantic import ValidationError

from agentflow.blocks import registry
from agentflow.builder import drawing
from agentflow.builder.faults import Doubtful, fault, sentence
from agentflow.builder.node import Node, Pin
from agentflow.builder.values import placed
from agentflow.errors import NotFound
from agentflow.graph import model
from agentflow.graph.catalogue import BlockSpec
from agentflow.graph.settings import GraphSettings, NodeSettings, unknown_settings


class Draft:
    """A graph's document, with what a program may read and link in it. `Graph` extends it."""

    def _begin(self, document: model.Graph) -> None:
        self._model = document
        self._places: dict[str, int] = {}
        for place, node in enumerate(document.nodes):
            self._places.setdefault(node.id, place)  # of two nodes with one id, the first counts, as everywhere
        self._handles: dict[str, Node] = {}
        self._specs: dict[str, BlockSpec] = {}  # blocks that were given as classes; they need not be registered
        self._ends = {link.ends for link in document.links}

    @classmethod
    def of(cls, document: model.Graph) -> Self:
        """A copy of `document`, to continue building."""
        graph = cls.__new__(cls)
        graph._begin(document.model_copy(deep=True))
        return graph

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The graph in `text`, as written by `to_json` or exported by another system.

        Raises:
            ValueError: `text` is not JSON, or not a graph.
        """
        return cls.of(model.Graph.from_json(text))

    def to_json(self) -> str:
        """The graph's document as JSON text."""
        return self._model.to_json()

    def document(self) -> dict[str, Any]:
        """The graph's document, in the form that the client takes."""
        return self._model.model_dump(mode="json")

    def as_model(self) -> model.Graph:
        """A copy of the document as the engine's model."""
        return self._model.model_copy(deep=True)

    @property
    def id(self) -> UUID:
        """The graph's id."""
        return self._model.id

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Its nodes, in the order of the document."""
        return tuple(self.node(id) for id in self._places)

    @property
    def links(self) -> tuple[model.Link, ...]:
        """Its links, in the order of the document."""
        return tuple(self._model.links)

    def node(self, node_id: str) -> Node:
        """The node with that id.

        Raises:
            NotFound: there is none.
        """
        if node_id not in self._places:
            raise NotFound(f"the graph has no node {node_id!r}")
        return self._handles.setdefault(node_id, Node(self, node_id))

    def link(
        self,
        source: Pin,
        sink: Pin,
        *,
        static: bool | None = None,
        id: str = "",
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Link an output pin to an input pin; a second time it does nothing. See `Pin.to`."""
        link = drawing.link_between(self, source, sink, static, {**(extra or {}), "id": id})
        if link.ends not in self._ends:
            self._ends.add(link.ends)
            self._model.links.append(link)

    def _spec(self, block_id: str) -> BlockSpec | None:
        """The catalogue: blocks that were given as classes, then registered ones."""
        return self._specs.get(block_id) or registry.catalogue(block_id)

    def _node(self, node_id: str) -> model.Node:
        return self._model.nodes[self._places[node_id]]

    def _replace(self, node_id: str, **changes: Any) -> None:
        node = self._node(node_id)
        fields = {name: getattr(node, name) for name in type(node).model_fields}
        document = {**(node.model_extra or {}), **fields, **changes}
        self._model.nodes[self._places[node_id]] = model.Node.model_validate(document)

    def _give(self, node: Node, given: Mapping[str, Any]) -> None:
        """Give input pins literals and links. If one is wrong, nothing is changed."""
        places: dict[str, Any] = {}
        for pin, value in (place for name, whole in given.items() for place in placed(name, whole, node.node_id)):
            if pin in places:
                raise fault(f"pin {pin!r} of {node.node_id!r} is given twice", node.node_id, pin)
            places[pin] = value
        before, links = self._node(node.node_id), len(self._model.links)
        try:
            # Literals first: those of a sub-graph node declare its pins.
            literals = {**before.input_default, **drawing.literals_of(node, places)}
            if literals != before.input_default:
                self._replace(node.node_id, input_default=literals)
            for pin, source in places.items():
                if isinstance(source, Pin):
                    self.link(source, Pin(node, pin))
        except Exception:
            self._model.nodes[self._places[node.node_id]] = before
            for link in self._model.links[links:]:
                self._ends.discard(link.ends)
            del self._model.links[links:]
            raise

    def _node_settings(self, node_id: str, settings: Mapping[str, Any]) -> NodeSettings:
        try:
            made = NodeSettings.model_validate(dict(settings))
        except ValidationError as error:
            raise fault(f"settings of {node_id!r}: {sentence(error)}", node_id) from None
        doubt_settings(made, repr(node_id))
        return made

    def _free_id(self, wanted: str | None, base: str) -> str:
        """`wanted`, which must be free; else `base`, or `base` with a number."""
        if wanted is not None:
            if wanted in self._places:
                raise fault(f"the node id {wanted!r} is taken", wanted)
            return wanted
        return drawing.free_id(base, self._places)


def doubt_settings(settings: GraphSettings | NodeSettings, whose: str) -> None:
    for key in unknown_settings(settings):
        warnings.warn(f"{whose}: there is no setting {key!r}", Doubtful, stacklevel=4)
