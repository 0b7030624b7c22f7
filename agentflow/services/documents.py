"""Reads graph documents: from a client's JSON to a checked `Graph` and its fingerprint. Stores nothing."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import ValidationError

from agentflow import forking
from agentflow.blocks import registry
from agentflow.blocks.registry import catalogue
from agentflow.dispatch.lanes import LANES
from agentflow.errors import GraphInvalid, Problem, TooLarge
from agentflow.graph.exchange import modernised, normalised
from agentflow.graph.former_pins import with_present_pins
from agentflow.graph.model import Graph
from agentflow.graph.nearly import MAX_HINTS, Hints
from agentflow.graph.shorthand import with_ids, with_schemas
from agentflow.graph.validation import validate
from agentflow.graph.wiring import Masks, with_static_links
from agentflow.settings import settings

_OF_THE_COPY = frozenset({"id", "version", "user_id", "created_at"})
_COMPUTED = frozenset(
    {"input_schema", "output_schema", "credentials_input_schema", "has_external_trigger", "has_human_in_the_loop"}
)
"""Fields that say nothing about what a graph does: they name a copy of it, or follow from the rest."""

_OF_THE_NODE_COPY = frozenset({"graph_id", "graph_version"})

_SUB_GRAPHS = ("sub_graphs", "subgraphs")  # today and in 2024

MAX_LEVELS: Final = 50
"""Levels of sub-graphs within sub-graphs in a document. Exports list those of all levels in one list."""

MAX_KNOWN: Final = 1000
"""Documents whose fingerprint this process remembers."""


@dataclass(frozen=True, slots=True)
class Given:
    """A document that was read.

    Attributes:
        graph: the graph, in today's form.
        warnings: what had to be changed for that.
    """

    graph: Graph
    warnings: tuple[Problem, ...]


def read(document: Mapping[str, Any]) -> Given:
    """The graph that `document` describes, in today's form: current names of pins, implied static links marked, and
    shorthands spelled out.

    Only its shape is checked.

    Raises:
        GraphInvalid: it does not have the shape of a graph; names every place.
        TooLarge: it has more nodes than the installation takes.
    """
    _refuse_too_many(document)
    try:
        graph = Graph.model_validate(with_ids(document, registry.id_of))
    except ValidationError as error:
        hints = Hints()
        entries = error.errors(include_url=False)
        problems = [_problem(document, entry["loc"], entry["msg"], hints) for entry in entries]
        raise GraphInvalid("the document has not the shape of a graph", problems) from None
    return brought_up_to_date(graph)


def brought_up_to_date(graph: Graph) -> Given:
    """`graph` in today's form, as far as its blocks are installed."""
    present, warnings = with_present_pins(modernised(graph), catalogue)
    return Given(with_static_links(with_schemas(present, catalogue), catalogue), tuple(warnings))


def check(given: Given, *, imported: bool = False) -> tuple[Problem, ...]:
    """Check the graph by the rules for saving it; returns the warnings.

    Args:
        given: the document that was read.
        imported: it comes from elsewhere: literals that do not fit give warnings, and blocks and pins may be missing
            (then the problems hold errors, which `is_complete` finds).

    Raises:
        GraphInvalid: it breaks some; holds all problems, with the warnings.
    """
    problems = (*given.warnings, *problems_of(given.graph, imported=imported))
    if any(problem.severity == "error" and not (imported and problem.missing) for problem in problems):
        raise GraphInvalid("the graph is not valid", problems)
    return problems


def problems_of(graph: Graph, *, imported: bool = False) -> tuple[Problem, ...]:
    """All that is wrong with saving the graph; see `check`."""
    found = validate(graph, catalogue, imported=imported, names=registry.ABSENT, block_names=registry.names())
    return (*found, *_lanes(graph, "warning" if imported else "error"))


def problems_of_run(
    graph: Graph, inputs: Mapping[str, Any] | None = None, masks: Masks | None = None
) -> tuple[Problem, ...]:
    """All that is wrong with running a stored graph with these inputs and masks.

    Its literals were checked when it was stored. One that does not fit came with an import, which allowed it; it is
    coerced, as it was where it comes from.
    """
    found = validate(graph, catalogue, for_run=True, inputs=inputs, masks=masks, imported=True)
    return (*found, *_lanes(graph, "error"))


def _lanes(graph: Graph, severity: Literal["error", "warning"]) -> Iterator[Problem]:
    """The lanes that it names but may not, if the operator restricts them."""
    allowed = settings().lanes
    named = [(None, graph.settings.queue), *((node.id, node.settings.queue) for node in graph.nodes)]
    for node, lane in named if allowed is not None else ():
        if lane is not None and lane not in (*LANES, *(allowed or ())):
            yield Problem(f"settings.queue: graphs may not name the lane '{lane}' here", node, severity=severity)


def is_complete(problems: Sequence[Problem]) -> bool:
    """Whether the graph that has these problems can run: no block and no pin of it is missing."""
    return all(problem.severity == "warning" for problem in problems)


def fingerprint(graph: Graph) -> str:
    """SHA-256, in hex, of the graph's content: equal for two copies that differ only in the graph's id."""
    root, *parts = [_content(part) for part in normalised(graph)]
    root["sub_graphs"] = parts
    return hashlib.sha256(json.dumps(root, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _content(graph: Graph) -> dict[str, Any]:
    content = graph.model_dump(mode="json", exclude=set(_OF_THE_COPY | _COMPUTED))
    content["nodes"] = [
        {key: value for key, value in node.items() if key not in _OF_THE_NODE_COPY} for node in content["nodes"]
    ]
    return content


class Known:
    """The fingerprints of documents that were read before, by their exact text.

    A client submits the same document again and again; reading it into a `Graph` costs some 20 times as much as this.
    """

    def __init__(self) -> None:
        self._fingerprints: forking.LastUsed[str, str] = forking.LastUsed(MAX_KNOWN)
        self._lock = forking.lock()

    def find(self, document: Mapping[str, Any]) -> str | None:
        """The fingerprint of `document`, if exactly this text was kept."""
        key = _text_digest(document)
        with self._lock:
            return self._fingerprints.get(key)

    def keep(self, document: Mapping[str, Any], fingerprint: str) -> None:
        """Keep it, and drop the least recently used one."""
        key = _text_digest(document)
        with self._lock:
            self._fingerprints[key] = fingerprint


def _text_digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, separators=(",", ":")).encode()).hexdigest()


def named(graph: Graph, graph_id: UUID, version: int) -> Graph:
    """The same graph as version `version` of `graph_id`. Node ids stay: they are unique within the graph."""
    nodes = [
        node
        if node.graph_id is None and node.graph_version is None
        else node.model_copy(update={"graph_id": graph_id, "graph_version": version})
        for node in graph.nodes
    ]
    return graph.model_copy(update={"id": graph_id, "version": version, "nodes": nodes})


def _refuse_too_many(document: Mapping[str, Any]) -> None:
    level, depth, count = [document], 0, 0
    while level:
        if depth > MAX_LEVELS:
            raise GraphInvalid(problems=[Problem(f"sub-graphs are nested more than {MAX_LEVELS} levels deep")])
        count += sum(len(_listed(graph, "nodes")) for graph in level)
        parts = [part for graph in level for key in _SUB_GRAPHS for part in _listed(graph, key)]
        level, depth = [part for part in parts if isinstance(part, Mapping)], depth + 1
    if count > settings().max_nodes:
        raise TooLarge(f"the graph and its sub-graphs have {count} nodes; at most {settings().max_nodes} are taken")


def _listed(document: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = document.get(key)
    return value if isinstance(value, list) else []


def _problem(document: Mapping[str, Any], place: tuple[int | str, ...], message: str, hints: Hints) -> Problem:
    """A fault of shape, located by ids that the document's author knows and not by list positions."""
    path = ".".join(map(str, place))
    node, pin = None, None
    if len(place) > 1 and place[0] == "nodes":
        node = _id_at(document, "nodes", place[1])
        path = ".".join(map(str, place[2:])) if node else path
        if place[2:3] == ("input_default",) and len(place) > 3:
            pin = str(place[3])
    elif len(place) > 1 and place[0] == "links":
        link = _id_at(document, "links", place[1])
        path = f"link {link or f'number {place[1]}'}" + "".join(f".{part}" for part in place[2:])
    message += _meant(document, place, hints)
    return Problem(f"{path}: {message}" if path else message, node, pin)


def _meant(document: Mapping[str, Any], place: tuple[int | str, ...], hints: Hints) -> str:
    """A hint at what the author may have meant by a missing or misplaced key; or nothing."""
    if not place or not isinstance(place[-1], str):
        return ""
    if place[0] == "nodes" and place[2:] == ("graph_id",):
        return "; the graph that a node runs is named in its input_default"
    holder: Any = document
    for step in place[:-1]:
        try:
            holder = holder[step]
        except (LookupError, TypeError):
            return ""
    if not isinstance(holder, Mapping) or place[-1] in holder:
        return ""
    written = hints.meant(place[-1], islice((key for key in holder if isinstance(key, str)), MAX_HINTS))
    return f"; is '{written}' meant to be it?" if written else ""


def _id_at(document: Mapping[str, Any], key: str, place: int | str) -> str | None:
    items = _listed(document, key)
    if not isinstance(place, int) or place >= len(items) or not isinstance(items[place], Mapping):
        return None
    found = items[place].get("id")
    return found if isinstance(found, str) and found else None
