"""What does a block get? Defaults, overlaid with what was delivered, masks on top; dynamic pins merged; then coerced.

`collect` is what is recorded and shown as a node execution's inputs; `prepare` is what the block's input model gets.
"""

from collections.abc import Mapping
from typing import Any

from agentflow.errors import BadInput
from agentflow.graph.catalogue import BlockKind, BlockSpec
from agentflow.graph.coercion import coerce
from agentflow.graph.pins import merge
from agentflow.graph.plan import PlanNode
from agentflow.graph.wiring import is_masked


def collect(node: PlanNode, delivered: Mapping[str, Any], mask: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The inputs of one execution of `node` by pin: raw dynamic keys, and the containers built from them beside.

    A mask takes the place of what is given for its pin, and inside it: literals for parts of a masked container would
    be put over the mask otherwise.

    Raises:
        BadInput: dynamic pins that do not go together; names the pin.
    """
    given = {**node.input_default, **delivered}
    if mask:
        given = {pin: value for pin, value in given.items() if not is_masked(pin, mask)} | dict(mask)
    try:
        return merge(given)
    except ValueError as error:
        raise BadInput(str(error)) from None


def prepare(collected: Mapping[str, Any], spec: BlockSpec) -> dict[str, Any]:
    """`collected` with each declared pin's value coerced to the pin's type, lossy as semantics.md §6 says.

    A null counts as not given where the pin has a default: that counts instead. A required pin keeps its null, and the
    block's model judges it: a type that admits it takes it. A sub-graph node keeps what is on no declared pin: those
    are the pins of its graph, which the block cannot declare.
    """
    declared = {name: coerce(collected[name], pin.annotation) for name, pin in spec.inputs.items() if name in collected}
    given = {**collected, **declared} if spec.kind is BlockKind.AGENT else declared
    required = {name for name, pin in spec.inputs.items() if pin.required}
    return {name: value for name, value in given.items() if value is not None or name in required}
