"""Collects what a block gets: defaults, then what was delivered, then masks; dynamic pins merged; all coerced.

`collect` is what is recorded and shown as a node execution's inputs; `prepare` is what the block's input model gets.
"""

from collections.abc import Mapping
from typing import Any

from agentflow.errors import BadInput
from agentflow.graph.catalogue import BlockKind, BlockSpec
from agentflow.graph.coercion import coerce
from agentflow.graph.pins import base_name, declared_name, merge, split
from agentflow.graph.plan import PlanNode
from agentflow.graph.wiring import SUB_GRAPH_PINS, is_masked, schema_properties


def collect(node: PlanNode, delivered: Mapping[str, Any], mask: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The inputs of one execution of `node` by pin: raw dynamic keys, and the containers built from them beside.

    A mask takes the place of what is given for its pin, and inside it: literals for parts of a masked container would
    be put over the mask otherwise.

    Raises:
        BadInput: dynamic pins that do not go together; names the pin.
    """
    try:
        if node.kind is BlockKind.AGENT:
            return _collect_for_sub_graph(node, delivered, mask or {})
        return merge(_laid_over(node.input_default, delivered, mask or {}))
    except ValueError as error:
        raise BadInput(str(error)) from None


def _laid_over(literals: Mapping[str, Any], delivered: Mapping[str, Any], mask: Mapping[str, Any]) -> dict[str, Any]:
    given = {**literals, **delivered}
    return {pin: value for pin, value in given.items() if not is_masked(pin, mask)} | dict(mask) if mask else given


def _collect_for_sub_graph(node: PlanNode, delivered: Mapping[str, Any], mask: Mapping[str, Any]) -> dict[str, Any]:
    """A sub-graph node's own literals, and beside them what comes to the inputs of its graph, by their names.

    An input that is called like one of the node's own pins comes in `inputs`, where its other literals are. A name that
    only looks like a dynamic pin is a name.
    """
    names = schema_properties(node.input_default, "input_schema")
    of_child = {pin: value for pin, value in mask.items() if declared_name(pin, names) in names}
    literals = {pin: value for pin, value in node.input_default.items() if base_name(pin) in SUB_GRAPH_PINS}
    others = {pin: value for pin, value in node.input_default.items() if pin not in literals}
    own = merge(_laid_over(literals, {}, {pin: value for pin, value in mask.items() if pin not in of_child}))
    brought = _laid_over(others, delivered, of_child)
    only_alike = {pin: value for pin, value in brought.items() if pin in names and split(pin)[1]}
    child = merge({pin: value for pin, value in brought.items() if pin not in only_alike}) | only_alike
    clashing = {name: child.pop(name) for name in SUB_GRAPH_PINS & child.keys()}
    clashing = {name: value for name, value in clashing.items() if value is not None}
    if clashing:
        own["inputs"] = {**coerce(own.get("inputs") or {}, dict[str, Any]), **clashing}
    return own | child


def collect_shown(node: PlanNode, delivered: Mapping[str, Any], mask: Mapping[str, Any]) -> dict[str, Any]:
    """What one execution of `node` was given, to be shown: as `collect` has it, or, where that fails, as it came."""
    try:
        return collect(node, delivered, mask)
    except BadInput:  # the node execution fails, or has failed, for it
        return {**node.input_default, **delivered, **mask}


def prepare(collected: Mapping[str, Any], spec: BlockSpec) -> dict[str, Any]:
    """`collected` with each declared pin's value coerced to the type of its pin, as docs/graphs.md says.

    A null counts as not given where the pin has a default: that counts instead. A required pin keeps its null, and the
    block's model judges it: a type that admits it takes it. A sub-graph node keeps what is on no declared pin: those
    are the pins of its graph, which the block cannot declare.
    """
    declared = {name: coerce(collected[name], pin.annotation) for name, pin in spec.inputs.items() if name in collected}
    given = {**collected, **declared} if spec.kind is BlockKind.AGENT else declared
    required = {name for name, pin in spec.inputs.items() if pin.required}
    return {name: value for name, value in given.items() if value is not None or name in required}
