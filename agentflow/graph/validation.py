"""Validates a graph: reports everything that is wrong at once, each problem with its node and pin.

It runs at save (`for_run=False`) and at submission (`for_run=True`, with the run's inputs and masks). Errors forbid
either, warnings do not. Cycles and self-loops are legal. This module checks the structure; `given_values` checks the
values that nodes are given. Every check is linear in nodes and links.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any, Final

from agentflow.errors import Problem
from agentflow.graph.cache_settings import check_caches
from agentflow.graph.catalogue import ERROR_FACTS, ERROR_PIN, BlockKind, Catalogue
from agentflow.graph.given_values import check_run_inputs, check_values
from agentflow.graph.idle_settings import OF_THE_ROOT, WITHOUT_EFFECT, idle_settings
from agentflow.graph.model import Graph, Link, Node, is_pin_name
from agentflow.graph.nearly import Hints
from agentflow.graph.pins import base_name, check_sink, declared_name, is_tool_pin, split
from agentflow.graph.plan import Plan
from agentflow.graph.run_inputs import misfits
from agentflow.graph.settings import GraphSettings, NodeSettings, known_settings, unknown_settings
from agentflow.graph.wiring import Masks, Wiring, input_pins, output_pins, schema_properties
from agentflow.graph.withholding import says_secret

MAX_NODE_ID: Final = 200
MAX_PIN: Final = 500
"""Bytes in UTF-8. Node ids and pins are parts of keys, and a PostgreSQL index entry holds 2,700 bytes in all."""

MAX_ERRORS: Final = 2000
"""Errors after which checking stops, because it costs time and the graph is refused anyway."""

FOREIGN_KEYS: Final = ("webhook", "subgraphs", "$schema")
"""Keys that other systems write, and that only look like misspelt ones of ours."""


def validate(
    graph: Graph,
    catalogue: Catalogue,
    *,
    for_run: bool = False,
    inputs: Mapping[str, Any] | None = None,
    masks: Masks | None = None,
    imported: bool = False,
    names: Mapping[str, str] | None = None,
    block_names: Collection[str] = (),
) -> list[Problem]:
    """The errors and warnings of `graph`, in the order of the document, up to `MAX_ERRORS` errors.

    Args:
        for_run: also check what a submission needs (required pins, webhook payloads). Sub-graphs are then left to the
            submissions of their own runs.
        inputs: the run's inputs, {name of the input node: value}; used with `for_run` only.
        masks: the run's input masks; likewise.
        imported: the graph comes from another system: literals that do not fit their pins are only warnings.
        names: id → name of known blocks, here or not, for messages about missing ones.
        block_names: the names of the available blocks, for suggestions.
    """
    check = _Check(catalogue, for_run, inputs or {}, masks or {}, imported, names or {}, block_names)
    problems: list[Problem] = []
    errors = 0
    for problem in chain(_check_one(graph, check), () if for_run else _check_sub_graphs(graph, check)):
        problems.append(problem)
        errors += problem.severity == "error" and not problem.missing
        if errors == MAX_ERRORS:
            problems.append(Problem(f"more than {MAX_ERRORS} things are wrong; the rest was not looked at"))
            break
    return problems


@dataclass(frozen=True, slots=True)
class _Check:
    """The arguments of `validate`."""

    catalogue: Catalogue
    for_run: bool
    inputs: Mapping[str, Any]
    masks: Masks
    imported: bool
    names: Mapping[str, str]
    block_names: Collection[str]
    hints: Hints = field(default_factory=Hints)


def check_inputs(plan: Plan, catalogue: Catalogue, inputs: Mapping[str, Any]) -> list[Problem]:
    """The problems with a run's inputs: errors for values that do not fit, warnings for unknown names.

    For graphs that are known to be valid. `run_inputs.missing_inputs` finds the missing inputs.
    """
    return list(misfits(plan, catalogue, inputs))


def _check_one(graph: Graph, check: _Check) -> Iterator[Problem]:
    wiring = Wiring.of(graph, check.catalogue, check.masks if check.for_run else None)
    yield from _check_keys(graph, check.hints)
    yield from _check_nodes(graph, wiring, check)
    yield from _check_names(wiring, check.imported)
    yield from _check_shared_pins(wiring)
    for link in graph.links:
        yield from _check_link(link, wiring, check.hints)
    yield from check_values(wiring, for_run=check.for_run, imported=check.imported)
    if check.for_run:
        known = {
            name: [(id, wiring.specs[id]) for id in ids] for name, ids in _named_nodes(wiring, BlockKind.INPUT).items()
        }
        yield from check_run_inputs(known, check.inputs)
    yield from _check_settings(graph, wiring, check.hints)
    if not check.for_run:  # a run ignores wrong names in cache.key; if none is right, all pins count
        yield from check_caches(graph, wiring, imported=check.imported)
    yield from _check_starts(wiring)


def _check_sub_graphs(graph: Graph, check: _Check) -> Iterator[Problem]:
    first_of = {(graph.id, graph.version): graph}
    for part in graph.parts():
        first = first_of.setdefault((part.id, part.version), part)
        if first is part:
            for problem in (*_check_one(part, check), *_check_settings_of_the_root(part)):
                yield replace(problem, message=f"sub-graph '{part.name or part.id}': {problem.message}")
        elif (first.nodes, first.links) != (part.nodes, part.links):  # an equal copy does no harm
            yield Problem(f"two different graphs of this document are version {part.version} of graph {part.id}")


def _check_keys(graph: Graph, hints: Hints) -> Iterator[Problem]:
    """Warns about unknown keys, which are kept but ignored, if they look like a misspelt known one."""
    for key, known in _misspelt(graph, hints):
        yield Problem(f"a graph has no key '{key}', it is ignored; did you mean '{known}'?", severity="warning")
    for node in graph.nodes:
        for key, known in _misspelt(node, hints):
            message = f"a node has no key '{key}', it is ignored; did you mean '{known}'?"
            yield Problem(message, node.id, severity="warning")
    for link in graph.links:
        for key, known in _misspelt(link, hints):
            message = f"link {link.id}: a link has no key '{key}', it is ignored; did you mean '{known}'?"
            yield Problem(message, severity="warning")


def _misspelt(part: Graph | Node | Link, hints: Hints) -> Iterator[tuple[str, str]]:
    """Each unknown key that resembles a known one without a value, and that one.

    `model_fields_set` alone is not enough: `links` is filled in from copies in the nodes and set by renaming pins.
    """
    unknown = [key for key in part.model_extra or () if key not in FOREIGN_KEYS]
    if unknown:
        fields = type(part).model_fields.keys()
        absent = [name for name in fields if name not in part.model_fields_set or not getattr(part, name)]
        found = ((key, hints.meant(key, absent)) for key in unknown)
        yield from ((key, known) for key, known in found if known is not None)


def _check_nodes(graph: Graph, wiring: Wiring, check: _Check) -> Iterator[Problem]:
    for node in graph.nodes:
        if wiring.nodes[node.id] is not node:
            yield Problem(f"node id '{node.id}' is used more than once", node.id)
            continue
        if len(node.id.encode()) > MAX_NODE_ID:
            yield Problem(f"a node id is at most {MAX_NODE_ID} bytes long", node.id)
        spec = wiring.specs.get(node.id)
        if spec is None:
            yield Problem(_no_block(node.block_id, check), node.id, missing=True)
        elif not spec.enabled:
            yield Problem(f"block {spec.name} is disabled", node.id, missing=True)


def _no_block(block_id: str, check: _Check) -> str:
    name = check.names.get(block_id)
    return (
        f"there is no block {name} here ('{block_id}')"
        if name
        else (f"there is no block '{block_id}'{check.hints.hint(block_id, check.block_names)}")
    )


def _check_names(wiring: Wiring, imported: bool) -> Iterator[Problem]:
    """Checks the names by which input and output nodes are known outside."""
    first_of = {kind: _named_nodes(wiring, kind) for kind in (BlockKind.INPUT, BlockKind.OUTPUT)}
    for id, node in wiring.nodes.items():
        kind = wiring.kind(id)
        if kind not in (BlockKind.INPUT, BlockKind.OUTPUT):
            continue
        name = node.input_default.get("name")
        if not isinstance(name, str) or not name.strip():
            yield Problem(f"an {kind.value.lower()} node needs a name", id, "name")
        elif not _is_storable(name):
            yield Problem("a name cannot contain NUL or half a surrogate pair", id, "name")
        elif len(name.encode()) > MAX_PIN or not is_pin_name(name):
            message = f"links cannot lead to '{name[:50]}': a name has up to {MAX_PIN} bytes and no control characters"
            yield Problem(message, id, "name", severity="warning" if imported else "error")
        elif (first := first_of[kind][name][0]) != id:
            effect = "both get the run's input of that name" if kind is BlockKind.INPUT else "their values are one list"
            message = f"the {kind.value.lower()} node '{first}' has the name '{name}' too: {effect}"
            yield Problem(message, id, "name", severity="warning")


def _check_shared_pins(wiring: Wiring) -> Iterator[Problem]:
    """Warns about a sub-graph's output named `error`: it shares the pin that reports failures."""
    for id, node in wiring.nodes.items():
        if wiring.kind(id) is BlockKind.AGENT and ERROR_PIN in schema_properties(node.input_default, "output_schema"):
            message = "the sub-graph has an output 'error': it goes out on the pin that says why the node failed, too"
            yield Problem(message, id, ERROR_PIN, severity="warning")


def _is_storable(name: str) -> bool:
    """Whether PostgreSQL can store the name: an input's name is stored with its value."""
    try:
        return b"\x00" not in name.encode()
    except UnicodeEncodeError:
        return False


def _named_nodes(wiring: Wiring, kind: BlockKind) -> dict[str, list[str]]:
    """Name → ids of the input or output nodes with it, in the order of the document."""
    found: dict[str, list[str]] = {}
    for id, node in wiring.nodes.items():
        name = node.input_default.get("name")
        if wiring.kind(id) is kind and isinstance(name, str):
            found.setdefault(name, []).append(id)
    return found


def _check_link(link: Link, wiring: Wiring, hints: Hints) -> Iterator[Problem]:
    if link.source_id not in wiring.nodes:
        at = (link.sink_id, link.sink_name) if link.sink_id in wiring.nodes else (None, None)
        yield Problem(f"link {link.id}: source node '{link.source_id}' is not in the graph", *at)
    else:
        yield from _check_source(link, wiring, hints)
    if link.sink_id not in wiring.nodes:
        at = (link.source_id, link.source_name) if link.source_id in wiring.nodes else (None, None)
        yield Problem(f"link {link.id}: sink node '{link.sink_id}' is not in the graph", *at)
    else:
        yield from _check_sink(link, wiring, hints)


def _check_source(link: Link, wiring: Wiring, hints: Hints) -> Iterator[Problem]:
    spec = wiring.specs.get(link.source_id)
    if spec is None:
        return
    tool = is_tool_pin(link.source_name) and spec.kind is not BlockKind.AGENT
    if not tool:  # a tool pin holds a node id and a pin's name, so it may be longer
        yield from _check_length(link, link.source_id, link.source_name)
    if spec.kind is BlockKind.NOTE:
        yield Problem(f"link {link.id}: a note never runs, so nothing comes from it", link.source_id)
    elif not tool:
        declared = output_pins(wiring.nodes[link.source_id], spec)
        pin = declared_name(link.source_name, declared)
        if pin not in declared:
            message = f"link {link.id}: {spec.name} has no output pin '{pin}' ({_listed(declared, pin, hints)})"
            yield Problem(message, link.source_id, link.source_name, missing=True)
        elif pin == ERROR_PIN:
            yield from _check_error_selector(link)


def _check_error_selector(link: Link) -> Iterator[Problem]:
    """Warns about selectors that can find nothing: links from `error` select only facts of the failure."""
    steps = split(link.source_name)[1]
    if steps and (steps[0].kind == "$" or steps[0].part not in ERROR_FACTS):
        message = f"link {link.id}: nothing of that name can be selected from 'error': {', '.join(ERROR_FACTS)}"
        yield Problem(message, link.source_id, link.source_name, "warning")


def _check_sink(link: Link, wiring: Wiring, hints: Hints) -> Iterator[Problem]:
    spec = wiring.specs.get(link.sink_id)
    if spec is None:
        return
    yield from _check_length(link, link.sink_id, link.sink_name)
    if spec.kind is BlockKind.NOTE:
        yield Problem(f"link {link.id}: a note never runs, so it takes nothing", link.sink_id)
    elif not is_tool_pin(link.sink_name):
        declared = input_pins(wiring.nodes[link.sink_id], spec)
        pin = declared_name(link.sink_name, declared)
        if pin not in declared:
            message = f"link {link.id}: {spec.name} has no input pin '{pin}' ({_listed(declared, pin, hints)})"
            yield Problem(message, link.sink_id, link.sink_name, missing=True)
        try:
            if link.sink_name not in declared:
                check_sink(link.sink_name)
        except ValueError as error:
            yield Problem(f"link {link.id}: {error}", link.sink_id, link.sink_name)


def _check_length(link: Link, node_id: str, pin: str) -> Iterator[Problem]:
    if len(pin.encode()) > MAX_PIN:
        yield Problem(f"link {link.id}: the name of a pin is at most {MAX_PIN} bytes long", node_id, pin)


def _listed(pins: Mapping[str, Any], wanted: str, hints: Hints) -> str:
    return f"it has: {', '.join(islice(pins, 20))}{hints.hint(wanted, pins)}" if pins else "it has none"


def _check_settings(graph: Graph, wiring: Wiring, hints: Hints) -> Iterator[Problem]:
    yield from _check_settings_of(graph.settings, None, hints)
    yield from _check_key_of_runs(graph, wiring, hints)
    out: dict[str, set[str]] = defaultdict(set)
    for link in wiring.links:
        out[link.source_id].add(base_name(link.source_name))
    for id, node in wiring.nodes.items():
        yield from _check_settings_of(node.settings, id, hints)
        if (spec := wiring.specs.get(id)) is not None and node.settings.model_fields_set:
            for message in idle_settings(spec, node.settings, graph.settings, out[id]):
                yield Problem(message, id, severity="warning")
        undo = node.settings.compensate_with
        if undo is not None and (undo not in wiring.nodes or undo == id):
            yield Problem(f"compensate_with must name another node of the graph, not '{undo}'", id)


def _check_key_of_runs(graph: Graph, wiring: Wiring, hints: Hints) -> Iterator[Problem]:
    key = graph.settings.runs.key if graph.settings.runs is not None else None
    if key is None:
        return
    names = {
        str(node.input_default.get("name")): node.input_default
        for id, node in wiring.nodes.items()
        if (spec := wiring.specs.get(id)) is not None and spec.kind is BlockKind.INPUT
    }
    if key in names and says_secret(names[key]):
        yield Problem(f"'runs.key' names {key!r}, which is a secret: whoever sees what waits for it would see it")
    if key not in names:
        yield Problem(f"'runs.key' must name an input of the graph, not '{key}'; {_listed(names, key, hints)}")


def _check_settings_of_the_root(part: Graph) -> Iterator[Problem]:
    for key in OF_THE_ROOT:
        if getattr(part.settings, key) is not None:
            message = (
                f"the setting '{key}' has no effect here: that of the graph at the root holds for all runs below it"
            )
            yield Problem(message, severity="warning")


def _check_settings_of(settings: GraphSettings | NodeSettings, node_id: str | None, hints: Hints) -> Iterator[Problem]:
    for key in unknown_settings(settings):
        message = f"there is no setting '{key}'{hints.hint(key, known_settings(type(settings)))}"
        yield Problem(message, node_id, severity="warning")
    for key in WITHOUT_EFFECT:
        # None switches it off, which it is anyway.
        if key in type(settings).model_fields and getattr(settings, key) is not None:
            yield Problem(f"the setting '{key}' has no effect in this version", node_id, severity="warning")


def _check_starts(wiring: Wiring) -> Iterator[Problem]:
    starting = [id for id in wiring.nodes if wiring.starts(id)]
    if not starting:
        yield Problem("the graph has no starting node: there is none without a link into it, and no input node")
        return
    for id, pins in _unfed(starting, wiring).items():
        if wiring.kind(id) is not BlockKind.NOTE:
            yield Problem(f"this node can never run: nothing can come to its pin '{pins[0]}'", id, pins[0], "warning")


def _unfed(starting: list[str], wiring: Wiring) -> dict[str, list[str]]:
    """The nodes that can never run, each with the sorted pins that no node leads to which can run before it."""
    unfed = {
        id: set() if wiring.starts(id) else pins - set(wiring.feedback.get(id, ()))
        for id, pins in wiring.linked.items()
    }
    links = defaultdict(list)
    for link in wiring.links:
        links[link.source_id].append(link)
    waiting = list(starting)
    while waiting:
        for link in links[waiting.pop()]:
            pins = unfed[link.sink_id]
            if link.sink_name in pins:
                pins.remove(link.sink_name)
                if not pins:
                    waiting.append(link.sink_id)
    return {id: sorted(pins) for id, pins in unfed.items() if pins}
