"""Which values must nobody see again? Those of pins that their block marks secret, and of input and output nodes that
are marked so.

They are stored, because blocks need them, and hidden in every view: runs, node executions, outputs and events.
"""

from typing import Any, Final

from agentflow.blocks.registry import catalogue
from agentflow.graph.catalogue import BlockKind
from agentflow.graph.pins import base_name
from agentflow.graph.plan import Plan, PlanNode
from agentflow.graph.withholding import says_secret

HIDDEN: Final = "**********"
"""What is shown in the place of a secret."""


def is_secret_input(node: PlanNode) -> bool:
    """Whether the node brings a secret into the graph: then what it takes and what it gives is hidden."""
    return node.kind is BlockKind.INPUT and says_secret(node.input_default)


def is_secret_output(node: PlanNode) -> bool:
    """Whether the node takes a secret out of the graph: its value is for a parent's graph, and for nobody to see."""
    return node.kind is BlockKind.OUTPUT and says_secret(node.input_default)


def hide_inputs(node: PlanNode, inputs: dict[str, Any]) -> dict[str, Any]:
    """`inputs` of a node by pin, as they may be shown."""
    spec = catalogue(node.block_id)
    secret = {name for name, pin in spec.inputs.items() if pin.secret} if spec else set()
    if is_secret_input(node) or is_secret_output(node):
        secret.add("value")
    if not secret:
        return inputs
    return {pin: HIDDEN if base_name(pin) in secret and value is not None else value for pin, value in inputs.items()}


def hide_run_inputs(plan: Plan, inputs: dict[str, Any]) -> dict[str, Any]:
    """A run's inputs by name, as they may be shown."""
    secret = {name for name, nodes in plan.inputs.items() if any(map(is_secret_input, nodes))}
    return {name: HIDDEN if name in secret else value for name, value in inputs.items()} if secret else inputs


def hides_output(node: PlanNode, pin: str) -> bool:
    """Whether what the node gives on `pin` is hidden."""
    if is_secret_input(node) or (is_secret_output(node) and pin != "name"):
        return True
    spec = catalogue(node.block_id)
    declared = spec.outputs.get(base_name(pin)) if spec else None
    return declared is not None and declared.secret
