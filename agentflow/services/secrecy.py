"""Applies the rule for what is secret (`graph/withholding.py`) to plans and installed blocks.

Secrets are stored, because blocks need them, and hidden in every view: runs, node executions, events, messages of
errors. Of a run's outputs only those of output nodes marked secret are hidden.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from agentflow.blocks.registry import catalogue
from agentflow.graph import withholding
from agentflow.graph.catalogue import BlockKind
from agentflow.graph.pins import base_name
from agentflow.graph.plan import Plan, PlanNode
from agentflow.graph.withholding import HIDDEN as HIDDEN  # shown instead of a secret
from agentflow.graph.withholding import MIN_SEARCHED as MIN_SEARCHED
from agentflow.graph.withholding import forms_in_json as forms_in_json
from agentflow.graph.withholding import redacted as redacted
from agentflow.graph.withholding import says_secret
from agentflow.graph.withholding import without_texts as without_texts
from agentflow.settings import ProviderCredential

_HEADERS: Final = "headers"


def is_secret_output(node: PlanNode) -> bool:
    """Whether the node outputs a secret of the graph: a parent's graph gets it, and no view shows it."""
    return node.kind is BlockKind.OUTPUT and says_secret(node.input_default)


def hide_inputs(node: PlanNode, inputs: dict[str, Any]) -> dict[str, Any]:
    """`inputs` of a node by pin, as they may be shown."""
    return withholding.hidden_inputs(node, catalogue(node.block_id), inputs)


def hide_run_inputs(plan: Plan, inputs: dict[str, Any]) -> dict[str, Any]:
    """A run's inputs by name, as they may be shown."""
    secret = {name for name, nodes in plan.inputs.items() if any(says_secret(node.input_default) for node in nodes)}
    return {
        name: HIDDEN if name in secret and value is not None else withholding.hidden_entry(name, value)
        for name, value in inputs.items()
    }


def hides_output(node: PlanNode, pin: str) -> bool:
    """Whether the node's outputs on `pin` are hidden completely."""
    return withholding.hides_output(node, catalogue(node.block_id), pin)


def hide_output(node: PlanNode, pin: str, value: Any) -> Any:
    """The node's output on `pin`, as it may be shown."""
    return withholding.hidden_output(node, catalogue(node.block_id), pin, value)


def fed_in_secret(plan: Plan, node: PlanNode) -> set[str]:
    """The pins of `node` to which a link may bring a secret."""
    return {
        base_name(link.sink_pin)
        for source in plan.nodes
        for link in source.links
        if link.sink == node.number and hides_output(source, link.source_pin)
    }


def hide_fed(plan: Plan, node: PlanNode, inputs: dict[str, Any]) -> dict[str, Any]:
    """`inputs` of a node without what links brought from secret places of the graph."""
    fed = fed_in_secret(plan, node)
    return {pin: HIDDEN if base_name(pin) in fed and value is not None else value for pin, value in inputs.items()}


def secrets_of(plan: Plan, node: PlanNode, inputs: Mapping[str, Any]) -> set[str]:
    """The texts in a node execution's inputs that no message may quote."""
    found = withholding.secret_texts(node, catalogue(node.block_id), inputs)
    fed = fed_in_secret(plan, node)
    for pin, value in inputs.items():
        if base_name(pin) in fed:
            found |= withholding.texts(value)
    return found


def secrets_of_credentials(credentials: Iterable[ProviderCredential]) -> set[str]:
    """The texts in the operator's credentials that no message may quote."""
    found: set[str] = set()
    for credential in credentials:
        for name, value in credential.revealed().items():
            if name == _HEADERS or withholding.is_secret_name(name):
                found |= withholding.texts(value)
    return found
