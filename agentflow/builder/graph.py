"""What can be said of a graph in a program? `Graph`: nodes, links, settings, and the same JSON as anywhere.

It wraps a `graph.model.Graph`, which it changes in place: there is no second form of a graph that could differ. What
is wrong with a line is told there; what only the whole shows (a cycle without a start, a missing value) by `check`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar
from uuid import UUID

from pydantic import ValidationError

from agentflow.blocks import registry
from agentflow.blocks.registry import ABSENT
from agentflow.builder import parts
from agentflow.builder.draft import Draft, doubt_settings
from agentflow.builder.faults import fault, sentence
from agentflow.builder.kinds import input_block
from agentflow.builder.lookup import BlockLike, is_input, output_of, spec_of
from agentflow.builder.node import Node
from agentflow.builder.pins import Pin
from agentflow.errors import GraphInvalid, Problem
from agentflow.graph import model
from agentflow.graph.validation import validate

_Accepted = TypeVar("_Accepted", covariant=True)


class Submits(Protocol[_Accepted]):
    """What `Graph.run` needs of a client: `agentflow.client.Client` has it."""

    @property
    def submit_inline(self) -> Callable[..., _Accepted]:
        """Runs a graph that comes with the call: (document, inputs, **options)."""


class Graph(Draft):
    """A graph that is being built. In a `with` statement it is checked at the end.

    Args:
        name: for people.
        description: what it does.
        instructions: how to use it.
        id: by default a new one.
        version: of that id.
        settings: defaults for its nodes, and what concerns a run as a whole (`graph.settings.GraphSettings`).
        extra: further fields of the document, which are kept and mean nothing here.

    Raises:
        GraphInvalid: one of them is not what a graph takes.
    """

    def __init__(
        self,
        name: str = "",
        *,
        description: str = "",
        instructions: str | None = None,
        id: UUID | str | None = None,
        version: int = 1,
        settings: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        fields = {"name": name, "description": description, "instructions": instructions, "id": id, "version": version}
        try:
            document = model.Graph.model_validate({**(extra or {}), **fields, "settings": dict(settings or {})})
        except ValidationError as error:
            raise fault(f"the graph {name!r}: {sentence(error)}") from None
        doubt_settings(document.settings, "the graph")
        self._begin(document)

    def add(
        self,
        block: BlockLike,
        id: str | None = None,
        /,
        *,
        node_title: str | None = None,
        settings: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        pins: Mapping[str, Any] | None = None,
        unchecked: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
        **given: Any,
    ) -> Node:
        """Add a node.

        Args:
            block: its class, name or id, or `Missing(id)`.
            id: the node's id; by default made of the block's name.
            node_title: what people are shown instead of the block's name.
            settings: how it is run (`graph.settings.NodeSettings`).
            metadata: free; graph editors keep the `position` there.
            pins: what input pins are given, as in `given`; for names that are no Python names, or taken here.
            unchecked: literals that are taken whether or not they fit.
            extra: further fields of the node's document.
            given: input pin → a literal, the pin that feeds it, or a list or dictionary of both.

        Raises:
            NotFound: there is no such block.
            NoSuchPin: it has no input pin of that name.
            GraphInvalid: a value does not fit its pin, or the id is taken.
        """
        spec = spec_of(block)
        block_id = spec.id if spec is not None else getattr(block, "id", "")
        node_id = self._free_id(id, spec.name if spec is not None else "node")
        if twice := sorted((pins or {}).keys() & given.keys()):
            raise fault(f"pin {twice[0]!r} of {node_id!r} is given twice", node_id, twice[0])
        document = {
            **(extra or {}),
            "id": node_id,
            "block_id": block_id,
            "input_default": dict(unchecked or {}),
            "metadata": {**(metadata or {}), **({} if node_title is None else {"customized_name": node_title})},
            "settings": self._node_settings(node_id, settings or {}),
        }
        if spec is not None and registry.catalogue(block_id) is not spec:
            self._specs[block_id] = spec
        self._places[node_id] = len(self._model.nodes)
        self._model.nodes.append(model.Node.model_validate(document))
        try:
            self._give(self.node(node_id), {**(pins or {}), **given})
        except Exception:  # half a node is of no use
            self._model.nodes.pop()
            del self._places[node_id], self._handles[node_id]
            raise
        return self.node(node_id)

    def input(self, name: str, kind: Any = Any, id: str | None = None, /, default: Any = None, **more: Any) -> Pin:
        """Add an input of the graph.

        Args:
            name: by which a run gives its value.
            kind: `str`, `int`, `bool`, `date`, `time`, a Literal or an enumeration; anything else that JSON has; or
                an input block.
            id: the node's id; by default made of the name.
            default: the value where a run gives none.
            more: further pins (`title`, `description`, `secret`), and whatever `add` takes.

        Returns:
            The pin that gives the value out.
        """
        block, chosen = input_block(kind)
        if not is_input(spec := spec_of(block)):
            raise fault(f"{spec.name if spec else block} is no input block")
        value = {} if default is None else {"value": default}
        node = self.add(block, self._free_id(id, name), name=name, **{**chosen, **value, **more})
        return node[output_of(spec)]

    def output(self, name: str, source: Any = None, id: str | None = None, /, **more: Any) -> Node:
        """Add an output of the graph: what comes to it from the pin `source` is among a run's outputs, as `name`.

        Args:
            name: under which a run's outputs list the values.
            source: the pin that feeds it; None: link it later.
            id: the node's id; by default made of the name.
            more: further pins (`format`, `description`, …), and whatever `add` takes.
        """
        value = {} if source is None else {"value": source}
        return self.add("AgentOutput", self._free_id(id, f"{name}_out"), name=name, **value, **more)

    def sub_graph(
        self, graph: Graph, inputs: Mapping[str, Any] | None = None, id: str | None = None, /, **more: Any
    ) -> Node:
        """Add a node that runs another graph; its pins are the inputs and outputs of that graph, as it is now.

        A copy of `graph` and of its own sub-graphs is put into this one's document. A graph may run itself.

        Args:
            inputs: input of `graph` → a literal, or the pin that feeds it.
            id: the node's id; by default made of the graph's name.
            more: what `add` takes.

        Raises:
            NoSuchPin: `graph` has no such input.
            GraphInvalid: another state of the same graph and version is in the document already.
        """
        return parts.sub_graph(self, graph, inputs or {}, id, more)

    def include(self, graph: Graph) -> None:
        """Put a copy of `graph` and of its sub-graphs into the document, for nodes that name it.

        Raises:
            GraphInvalid: another state of the same graph and version is in it already.
        """
        parts.include(self, graph)

    def problems(
        self, *, for_run: bool = False, inputs: Mapping[str, Any] | None = None, imported: bool = False
    ) -> list[Problem]:
        """All that is wrong with the graph, errors and warnings; arguments as of `graph.validation.validate`."""
        return validate(self._model, self._spec, for_run=for_run, inputs=inputs, imported=imported, names=ABSENT)

    def check(self, *, for_run: bool = False, inputs: Mapping[str, Any] | None = None) -> None:
        """Raise what `problems` finds.

        Raises:
            GraphInvalid: there are errors; `problems` has all of them, the message too.
        """
        errors = [problem for problem in self.problems(for_run=for_run, inputs=inputs) if problem.severity == "error"]
        if errors:
            raise GraphInvalid(
                "\n  ".join([f"the graph {self._model.name!r} is not valid:", *map(_line, errors)]), errors
            )

    def run(self, client: Submits[_Accepted], inputs: Mapping[str, Any] | None = None, **options: Any) -> _Accepted:
        """Check the graph and submit it with `client.submit_inline`, which takes `options`.

        Raises:
            GraphInvalid: it is not valid, or cannot run with these inputs; nothing was sent.
        """
        self.check(for_run=True, inputs=inputs)
        return client.submit_inline(self.document(), inputs, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.check()

    def __repr__(self) -> str:
        return f"<graph {self._model.name!r}: {len(self._model.nodes)} nodes, {len(self._model.links)} links>"


def _line(problem: Problem) -> str:
    """A problem with its place."""
    place = ", ".join(f"{name} {value!r}" for name, value in (("node", problem.node), ("pin", problem.pin)) if value)
    return f"{place}: {problem.message}" if place else problem.message
