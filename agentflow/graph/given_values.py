"""Checks the values that nodes are given: required pins, and the types of literals, masks and run inputs.

Messages must never repeat a value: it may be a secret.
"""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal
from uuid import UUID

from agentflow.errors import Problem
from agentflow.graph.catalogue import BlockKind, BlockSpec, PinSpec
from agentflow.graph.coercion import admits_null, coerce, coercible, item_annotation
from agentflow.graph.model import Node
from agentflow.graph.pins import base_name, check_sink, declared_name, merge, split
from agentflow.graph.run_inputs import sort_of, type_words
from agentflow.graph.wiring import SUB_GRAPH_PINS, Wiring, input_pins, schema_properties

_CHECKED_AT_SAVE = (BlockKind.INPUT, BlockKind.OUTPUT, BlockKind.AGENT)
_WEBHOOKS = (BlockKind.WEBHOOK, BlockKind.WEBHOOK_MANUAL)
_PAYLOAD = "payload"

Severity = Literal["error", "warning"]


def check_values(wiring: Wiring, *, for_run: bool, imported: bool) -> Iterator[Problem]:
    """The problems with the values in the document and in the run's masks, node by node."""
    for id, node in wiring.nodes.items():
        spec = wiring.specs.get(id)
        if spec is None or spec.kind is BlockKind.NOTE:
            continue
        if for_run or spec.kind in _CHECKED_AT_SAVE:
            yield from _check_required(node, spec, wiring)
        if for_run and spec.kind in _WEBHOOKS:
            yield from _check_payload(node, spec, wiring)
        yield from _check_literals(node, spec, wiring, "warning" if imported else "error")
        yield from _check_masks(node, spec, wiring.masks.get(id, {}))


InputNodes = Mapping[str, Sequence[tuple[str, BlockSpec | None]]]
"""Name → ids and blocks of the input nodes with that name (block None: any value is accepted)."""


def check_run_inputs(known: InputNodes, inputs: Mapping[str, Any]) -> Iterator[Problem]:
    """The problems with a run's inputs."""
    for name, value in inputs.items():
        if name not in known:
            yield Problem(f"the graph has no input '{name}'; it is ignored", severity="warning")
        for id, spec in known.get(name, ()):
            pin = spec.inputs.get("value") if spec else None
            if pin and value is not None and not coercible(value, pin.annotation):
                yield Problem(f"input '{name}': {_misfit(value, pin.annotation)}", id, "value")


def _check_required(node: Node, spec: BlockSpec, wiring: Wiring) -> Iterator[Problem]:
    given = _given_names(node, spec, wiring)
    if spec.kind in (BlockKind.INPUT, BlockKind.OUTPUT):
        given.add("name")  # `validation` reports missing names
    if spec.kind is BlockKind.INPUT:
        given.add("value")  # the run may give it; if not, the node emits nothing
    for pin in spec.inputs.values():
        if pin.required and pin.name not in given and not _is_credentials(pin):
            yield Problem(f"{spec.name} needs '{pin.name}': link it or give a value", node.id, pin.name)
    if spec.kind is BlockKind.AGENT:
        yield from _check_graph_id(node)
        brought = _brought_names(node, wiring) | _agent_inputs(node)
        for pin in input_pins(node, spec).values():
            if pin.required and pin.name not in brought:
                message = f"the sub-graph needs '{pin.name}': link it or give a value"
                yield Problem(message, node.id, pin.name, missing=True)


def _check_graph_id(node: Node) -> Iterator[Problem]:
    graph_id = node.input_default.get("graph_id")
    if isinstance(graph_id, str) and graph_id:
        try:
            UUID(graph_id)
        except ValueError:
            message = f"'{graph_id[:100]}' is neither the id of a graph nor that of a sub-graph of this document"
            yield Problem(message, node.id, "graph_id")


def _given_names(node: Node, spec: BlockSpec, wiring: Wiring) -> set[str]:
    """The block's pins that are linked, masked or have a literal. A null counts as no value."""
    given = {base_name(pin) for pin, value in node.input_default.items() if value is not None}
    if spec.kind is not BlockKind.AGENT:  # links into a sub-graph node feed its graph's inputs
        given |= {base_name(pin) for pin in wiring.linked[node.id]}
    own = input_pins(node, spec) if spec.kind is BlockKind.AGENT else ()
    return given | {base_name(pin) for pin in wiring.masks.get(node.id, ()) if declared_name(pin, own) not in own}


def _brought_names(node: Node, wiring: Wiring) -> set[str]:
    """The inputs of a sub-graph node's graph that get a value from links, masks or literals."""
    names = schema_properties(node.input_default, "input_schema")
    literals = {pin for pin, value in node.input_default.items() if value is not None}
    brought = [pin for pin in literals if base_name(pin) not in SUB_GRAPH_PINS]
    return {declared_name(pin, names) for pin in (*brought, *wiring.linked[node.id], *wiring.masks.get(node.id, ()))}


def _agent_inputs(node: Node) -> set[str]:
    """The inputs that a sub-graph node gives its run as literals."""
    try:
        inputs = merge(node.input_default).get("inputs")  # `inputs_#_name` counts too
    except ValueError:  # reported with the literals
        return set()
    return {name for name, value in inputs.items() if value is not None} if isinstance(inputs, dict) else set()


def _is_credentials(pin: PinSpec) -> bool:
    """Credentials are chosen at submission and looked up by the services; they are not given as values."""
    return "credentials_provider" in pin.schema


def _check_payload(node: Node, spec: BlockSpec, wiring: Wiring) -> Iterator[Problem]:
    got = {*wiring.masks.get(node.id, ()), *wiring.linked[node.id]}
    got |= {pin for pin, value in node.input_default.items() if value}  # an empty payload does not count
    if _PAYLOAD in spec.inputs and _PAYLOAD not in map(base_name, got):
        yield Problem("this node is fed by a webhook and got no payload", node.id, _PAYLOAD)


def _check_literals(node: Node, spec: BlockSpec, wiring: Wiring, severity: Severity) -> Iterator[Problem]:
    own = input_pins(node, spec)
    linked, masked = wiring.linked[node.id], wiring.masks.get(node.id, {})
    for pin, value in node.input_default.items():
        name = declared_name(pin, own)
        if name not in spec.inputs and name not in own:
            yield Problem(f"{spec.name} has no input pin '{name}'; its value is ignored", node.id, pin, "warning")
        elif pin in own and spec.kind is BlockKind.AGENT and pin not in SUB_GRAPH_PINS:
            continue  # a value for an input of its graph, which the child run checks
        elif pin not in linked and pin not in masked:  # else the literal is replaced
            yield from _check_value(pin, value, spec, node.id, severity)


def _check_masks(node: Node, spec: BlockSpec, masks: Mapping[str, Any]) -> Iterator[Problem]:
    own = input_pins(node, spec)
    for pin, value in masks.items():
        name = declared_name(pin, own)
        if name not in spec.inputs and name not in own:
            continue  # the mask may mean a node of another graph (`masked_names.py`)
        if spec.kind is not BlockKind.AGENT or name not in own:  # its child run checks its graph's inputs
            yield from _check_null(pin, value, spec, node.id)
            yield from _check_value(pin, value, spec, node.id, "error")


def _check_null(pin: str, value: Any, spec: BlockSpec, node_id: str) -> Iterator[Problem]:
    """A mask is delivered: its null is a value. The pin must accept it, unless it has a default."""
    declared = spec.inputs.get(pin)
    if value is None and declared and declared.required and not admits_null(declared.annotation):
        yield Problem("an input mask gives null, which the pin does not take", node_id, pin)


def _check_value(pin: str, value: Any, spec: BlockSpec, node_id: str, severity: Severity) -> Iterator[Problem]:
    """Whether a given value fits the place that `pin` points to."""
    try:
        check_sink(pin)
    except ValueError as error:
        yield Problem(str(error), node_id, pin)
        return
    declared = spec.inputs.get(base_name(pin))
    annotation = declared.annotation if declared else Any
    for step in split(pin)[1]:
        annotation = item_annotation(annotation, step.kind)
    if value is None:
        return
    if not coercible(value, annotation):
        yield Problem(_misfit(value, annotation), node_id, pin, severity)
    elif declared and pin == declared.name and (fault := _out_of_bounds(value, declared)) is not None:
        yield Problem(fault, node_id, pin, severity)


_NUMBERS: Final = ("integer", "number")
_BOUNDS: Final[tuple[tuple[str, str, Callable[[float, float], bool]], ...]] = (
    ("minimum", "at least", operator.ge),
    ("exclusiveMinimum", "above", operator.gt),
    ("maximum", "at most", operator.le),
    ("exclusiveMaximum", "below", operator.lt),
)


def _out_of_bounds(value: Any, pin: PinSpec) -> str | None:
    """What is wrong with a value for a pin that takes only numbers; None if it fits or the pin takes other types."""
    alternatives = pin.schema.get("anyOf", [pin.schema])
    numeric = [one for one in alternatives if one.get("type") in _NUMBERS]
    if not numeric or any(one.get("type") not in (*_NUMBERS, "null") for one in alternatives):
        return None
    if isinstance(value, bool):
        return "a boolean is given where a number is needed"
    number = coerce(value, pin.annotation)
    if not isinstance(number, int | float):
        return None
    missed = [
        [f"{word} {one[key]}" for key, word, holds in _BOUNDS if key in one and not holds(number, one[key])]
        for one in numeric
    ]
    return None if [] in missed else f"it must be {' and '.join(missed[0])}"


def _misfit(value: Any, annotation: Any) -> str:
    return f"{sort_of(value)} is given that cannot be taken as {type_words(annotation)}"
