"""Writes Python source that builds a given graph, for people who continue by hand.

Running it builds the same document, except that sub-graphs of all levels stand side by side and tool pins name their
sinks. A block that is not registered here is written as `Missing`.
"""

import builtins
import keyword
import re
import warnings
from collections.abc import Iterator, Mapping
from pprint import pformat
from textwrap import indent
from typing import Any, Final

from agentflow.blocks import registry
from agentflow.builder import drawing
from agentflow.builder.faults import Doubtful, fault
from agentflow.builder.graph import Graph
from agentflow.builder.node import Node, Pin
from agentflow.errors import GraphInvalid
from agentflow.graph import model
from agentflow.graph.catalogue import BlockKind
from agentflow.graph.exchange import distinct_parts
from agentflow.graph.pins import TOOLS, is_tool_pin, split

_WIDTH: Final = 110
"""Characters of a line."""

_OPTIONS: Final = ("node_title", "settings", "metadata", "pins", "unchecked", "extra")
"""Arguments of `Graph.add` that are not pins."""


_INDEX: Final = re.compile("0|[1-9][0-9]*")


def to_python(graph: Graph | model.Graph) -> str:
    """Python source that builds `graph` as `g`.

    Raises:
        GraphInvalid: it cannot be built: links lead nowhere, blocks lack pins, or ids occur twice.
    """
    built = graph if isinstance(graph, Graph) else Graph.of(graph)
    names = _Names()
    document = built._model
    parts = [Graph.of(part) for part in distinct_parts(document).values()]
    chapters = [_chapter(names.free(part._model.name or "sub_graph"), part, names, []) for part in parts]
    included = [chapter[0].partition(" = ")[0] for chapter in chapters]
    chapters.append(_chapter("g", built, names, included))
    lines = "\n\n".join("\n".join(chapter) for chapter in chapters)
    used = ["Graph", "Missing"] if "Missing(" in lines else ["Graph"]
    return f"from agentflow.builder import {', '.join(used)}\n\n{lines}\n"


class _Names:
    """Unique names of variables."""

    def __init__(self) -> None:
        self._taken = {"g", "Graph", "Missing", *dir(builtins), *keyword.kwlist, *keyword.softkwlist}

    def free(self, wanted: str) -> str:
        stem = re.sub(r"[^0-9a-zA-Z]+", "_", wanted).strip("_").lower()[:40] or "node"
        name = drawing.free_id(stem if stem[0].isalpha() else f"n_{stem}", self._taken)
        self._taken.add(name)
        return name


def _chapter(variable: str, graph: Graph, names: _Names, included: list[str]) -> list[str]:
    """The lines that build one graph as `variable`."""
    document = graph._model
    if len(graph.nodes) < len(document.nodes):
        raise fault("the graph has two nodes with one id")
    variables = {node.node_id: names.free(node.node_id) for node in graph.nodes}
    lines = [f"{variable} = {_call('Graph', *_graph_arguments(document))}"]
    lines += [f"{variable}.include({part})" for part in included]
    for node in graph.nodes:
        lines.append(f"{variables[node.node_id]} = {_call(f'{variable}.add', *_node_arguments(node))}")
    lines += [_link(variable, graph, link, variables) for link in document.links]
    return lines


def _graph_arguments(graph: model.Graph) -> Iterator[str]:
    yield repr(graph.name)
    extra = dict(graph.model_extra or {}) if graph.is_active else {"is_active": False, **(graph.model_extra or {})}
    options = {
        "description": graph.description,
        "instructions": graph.instructions,
        "id": str(graph.id),
        "version": graph.version if graph.version != 1 else None,
        "settings": graph.settings.model_dump(mode="json"),
        "extra": extra,
    }
    # Empty instructions are not the same as none.
    yield from _named({key: value for key, value in options.items() if value or value == graph.instructions == ""})


def _node_arguments(node: Node) -> Iterator[str]:
    document = node._document
    spec = registry.catalogue(document.block_id)
    yield repr(spec.name) if spec is not None else f"Missing({document.block_id!r})"
    yield repr(document.id)
    fields = {key: getattr(document, key) for key in ("webhook_id", "graph_id", "graph_version")}
    extra = {key: value for key, value in fields.items() if value is not None} | (document.model_extra or {})
    if "graph_id" in extra:
        extra["graph_id"] = str(extra["graph_id"])
    literals = document.input_default
    if not _all_fit(node):
        yield from _named({"unchecked": literals})
    elif all(_is_plain(name) and name not in _OPTIONS for name in literals):
        yield from _named(literals)
    else:
        yield from _named({"pins": literals})
    metadata, title = dict(document.metadata), None
    if metadata and next(reversed(metadata)) == "customized_name" and isinstance(metadata["customized_name"], str):
        title = metadata.pop("customized_name")
    options = {"settings": document.settings.model_dump(mode="json"), "metadata": metadata, "extra": extra}
    yield from _named({**({} if title is None else {"node_title": title}), **{k: v for k, v in options.items() if v}})


def _all_fit(node: Node) -> bool:
    """Whether `Graph.add` would accept the node's literals with its checks."""
    spec = registry.catalogue(node._document.block_id)
    if spec is None or spec.kind is BlockKind.AGENT:  # a sub-graph node's literals declare its pins
        return False
    for pin, value in node._document.input_default.items():
        try:
            drawing.literals_of(node, {pin: value})
        except GraphInvalid:
            return False
    return True


def _link(variable: str, graph: Graph, link: model.Link, variables: Mapping[str, str]) -> str:
    for end in (link.source_id, link.sink_id):
        if end not in variables:
            raise fault(f"link {link.id}: the graph has no node {end!r}", end)
    tool = is_tool_pin(link.source_name)
    source = Pin(graph.node(link.source_id), TOOLS if tool else link.source_name)
    sink = Pin(graph.node(link.sink_id), link.sink_name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Doubtful)
        usual = drawing.link_between(graph, source, sink, None, {})
    ends = [f"{variables[end.node.node_id]}{_reached(end.name)}" for end in (source, sink)]
    options: dict[str, Any] = {"static": link.is_static} if link.is_static != usual.is_static else {}
    named = model.Link.model_validate({**link.model_dump(), "id": "", "source_name": usual.source_name})
    if link.id not in (named.id, usual.id):
        options["id"] = link.id
    if link.model_extra:
        options["extra"] = link.model_extra
    return _call(f"{variable}.link", *ends, *_named(options)) if options else " >> ".join(ends)


def _reached(pin: str) -> str:
    """A node's pin, as written after the node's variable."""
    base, steps = split(pin)
    plain = _is_plain(base) and not base.startswith(("_", "node_"))
    if any(kind == "$" and not _INDEX.fullmatch(part) for kind, part in steps):
        return f"[{pin!r}]"  # leading zeros or no number: a selector that finds nothing
    text = f".{base}" if plain else f"[{base!r}]"
    for kind, part in steps:
        text += f".attr({part!r})" if kind == "@" else f"[{part}]" if kind == "$" else f"[{part!r}]"
    return text


def _is_plain(name: str) -> bool:
    """Whether `name` is also a Python name. ASCII only, because Python treats some other letters as equal."""
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name)


def _named(arguments: Mapping[str, Any]) -> Iterator[str]:
    for name, value in arguments.items():
        lines = pformat(value, width=_WIDTH - 20, sort_dicts=False).splitlines()
        yield f"\n{' ' * (len(name) + 1)}".join([f"{name}={lines[0]}", *lines[1:]])


def _call(function: str, *arguments: str) -> str:
    """A call on one line, or with one argument per line."""
    line = f"{function}({', '.join(arguments)})"
    if len(line) <= _WIDTH - 15 and "\n" not in line:
        return line
    joined = ",\n".join(arguments)
    return f"{function}(\n{indent(joined, '    ')},\n)"
