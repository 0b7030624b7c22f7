"""Provides `Graph`, with which a program writes a graph: nodes, links, settings, and the same JSON as elsewhere.

It changes a `graph.model.Graph` in place, so there is no second form that could differ. A wrong line is reported at
once; faults that only the whole graph shows (a cycle without a start, a missing value) are found by `check`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar
from uuid import UUID

from pydantic import ValidationError

from agentflow.blocks import registry
from agentflow.blocks.registry import ABSENT
from agentflow.builder.draft import Draft, doubt_settings
from agentflow.builder.faults import fault, no_such_pin, sentence
from agentflow.builder.lookup import BlockLike, input_block, is_input, output_of, spec_of
from agentflow.builder.node import Node, Pin
from agentflow.builder.values import placed
from agentflow.errors import GraphInvalid, Problem
from agentflow.graph import model, schemas
from agentflow.graph.exchange import distinct_parts
from agentflow.graph.model import AGENT_BLOCK
from agentflow.graph.pins import split
from agentflow.graph.validation import validate

_Accepted = TypeVar("_Accepted", covariant=True)


class Submits(Protocol[_Accepted]):
    """What `Graph.run` needs of a client, such as `agentflow.client.Client`."""

    @property
    def submit_inline(self) -> Callable[..., _Accepted]:
        """Runs a graph that is part of the call: (document, inputs, **options)."""


class Graph(Draft):
    """A graph that is being built. A `with` statement checks it at its end.

    Args:
        name: for people.
        description: what the graph does.
        instructions: how to use it.
        id: a new one by default.
        version: the version of that id.
        settings: defaults for its nodes, and settings of a whole run (`graph.settings.GraphSettings`).
        extra: further fields of the document, which are kept but ignored.

    Raises:
        GraphInvalid: one of them is not valid.
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
            id: the node's id; by default derived from the block's name.
            node_title: shown to people instead of the block's name.
            settings: the node's settings (`graph.settings.NodeSettings`).
            metadata: free; graph editors keep the `position` there.
            pins: values as in `given`, for pins whose names are no Python names or are arguments of this method.
            unchecked: literals that are accepted even if they do not fit.
            extra: further fields of the node's document.
            given: input pin → a literal, the pin that feeds it, or a list or dictionary of both.

        Raises:
            NotFound: there is no such block.
            NoSuchPin: the block has no input pin of that name.
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
        except Exception:  # leave no incomplete node behind
            self._model.nodes.pop()
            del self._places[node_id], self._handles[node_id]
            raise
        return self.node(node_id)

    def input(self, name: str, kind: Any = Any, id: str | None = None, /, default: Any = None, **more: Any) -> Pin:
        """Add an input of the graph.

        Args:
            name: the input's name in a run.
            kind: `str`, `int`, `bool`, `date`, `time`, a Literal or an enumeration; any other JSON type; or an input
                block.
            id: the node's id; by default derived from the name.
            default: the value if a run gives none.
            more: further pins (`title`, `description`, `secret`), and any argument of `add`.

        Returns:
            The pin that gives the value.
        """
        block, chosen = input_block(kind)
        if not is_input(spec := spec_of(block)):
            raise fault(f"{spec.name if spec else block} is no input block")
        value = {} if default is None else {"value": default}
        node = self.add(block, self._free_id(id, name), name=name, **{**chosen, **value, **more})
        return node[output_of(spec)]

    def output(self, name: str, source: Any = None, id: str | None = None, /, **more: Any) -> Node:
        """Add an output of the graph. Values from the pin `source` appear among a run's outputs as `name`.

        Args:
            name: the output's name in a run.
            source: the pin that feeds it; None: link it later.
            id: the node's id; by default derived from the name.
            more: further pins (`format`, `description`, …), and any argument of `add`.
        """
        value = {} if source is None else {"value": source}
        return self.add("AgentOutput", self._free_id(id, f"{name}_out"), name=name, **value, **more)

    def sub_graph(
        self, graph: Graph, inputs: Mapping[str, Any] | None = None, id: str | None = None, /, **more: Any
    ) -> Node:
        """Add a node that runs another graph. Its pins are the present inputs and outputs of that graph.

        A copy of `graph` and of its sub-graphs is put into this graph's document. A graph may run itself.

        Args:
            inputs: input of `graph` → a literal, or the pin that feeds it.
            id: the node's id; by default derived from the graph's name.
            more: any argument of `add`.

        Raises:
            NoSuchPin: `graph` has no such input.
            GraphInvalid: the document already has another state of the same graph and version.
        """
        inner = graph._model
        takes, gives = (make(inner, graph._spec) for make in (schemas.input_schema, schemas.output_schema))
        node_id = self._free_id(id, inner.name or "sub_graph")
        for name in inputs or {}:
            if name not in takes["properties"]:
                raise no_such_pin(repr(inner.name or "the sub-graph"), "input", name, takes["properties"], node_id)
        literals, links = _literals_and_links(inputs or {}, node_id)
        before = len(self._model.sub_graphs)
        self.include(graph)
        own_pins = {
            "graph_id": str(inner.id),
            "graph_version": inner.version,
            "agent_name": inner.name,
            "inputs": literals,
            "input_schema": takes,
            "output_schema": gives,
        }
        try:
            # Unchecked: the schemas must be there before the links to the pins that they declare.
            pins = {**more.get("pins", {}), **links}
            return self.add(AGENT_BLOCK, node_id, **{**more, "unchecked": own_pins, "pins": pins})
        except Exception:
            del self._model.sub_graphs[before:]
            raise

    def include(self, graph: Graph) -> None:
        """Put a copy of `graph` and of its sub-graphs into the document, for nodes that refer to it.

        Raises:
            GraphInvalid: the document already has another state of the same graph and version.
        """
        if graph is self:  # recursion: the document already contains itself
            return
        root, given = self._model, graph.as_model()
        own = (root.id, root.version)
        known = {own: root} | distinct_parts(root)
        added = {(given.id, given.version): given.model_copy(update={"sub_graphs": []})} | distinct_parts(given)
        for key, part in added.items():
            if key in known and key != own and not _same(known[key], part):
                raise fault(
                    f"the sub-graph {part.name!r} was changed after it was put into the document: give it a new version"
                )
            if key not in known:
                root.sub_graphs.append(part.model_copy(update={"sub_graphs": []}))
        self._specs.update(graph._specs)

    def problems(
        self, *, for_run: bool = False, inputs: Mapping[str, Any] | None = None, imported: bool = False
    ) -> list[Problem]:
        """All errors and warnings of the graph; arguments as for `graph.validation.validate`."""
        return validate(self._model, self._spec, for_run=for_run, inputs=inputs, imported=imported, names=ABSENT)

    def check(self, *, for_run: bool = False, inputs: Mapping[str, Any] | None = None) -> None:
        """Raise the errors that `problems` finds.

        Raises:
            GraphInvalid: there are errors; all of them are in its message and its `problems`.
        """
        errors = [problem for problem in self.problems(for_run=for_run, inputs=inputs) if problem.severity == "error"]
        if errors:
            raise GraphInvalid(
                "\n  ".join([f"the graph {self._model.name!r} is not valid:", *map(_line, errors)]), errors
            )

    def run(self, client: Submits[_Accepted], inputs: Mapping[str, Any] | None = None, **options: Any) -> _Accepted:
        """Check the graph and submit it with `client.submit_inline`, which takes `options`.

        Raises:
            GraphInvalid: the graph is not valid, or cannot run with these inputs. Nothing was sent.
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
    """A problem with its place, on one line."""
    place = ", ".join(f"{name} {value!r}" for name, value in (("node", problem.node), ("pin", problem.pin)) if value)
    return f"{place}: {problem.message}" if place else problem.message


def _literals_and_links(inputs: Mapping[str, Any], node_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs without pins, which become one literal of the node, and the places that pins feed."""
    literals: dict[str, Any] = {}
    links: dict[str, Any] = {}
    for name, value in inputs.items():
        places = dict(placed(name, value, node_id))
        if any(isinstance(item, Pin) for item in places.values()):
            if split(name)[1]:
                raise fault(f"the input {name!r} has a name that a link cannot lead to", node_id, name)
            links |= places
        else:
            literals |= places
    return literals, links


def _same(one: model.Graph, other: model.Graph) -> bool:
    return (one.nodes, one.links) == (other.nodes, other.links)
