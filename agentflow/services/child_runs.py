"""Runs another graph, or one node by itself, as a child run of a node execution, and reads its outcome.

A child run is identified by (parent run, node, index, call): starting it twice starts it once. It has its parent's
owner, priority and masks, counts against the limits of the whole tree, and ends at the latest when its parent must.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.blocks.registry import catalogue
from agentflow.credentials import checking
from agentflow.engine.codec import loads, members
from agentflow.engine.statuses import RunStatus
from agentflow.errors import BadInput, GraphInvalid, Malformed, NotFound, TooLarge
from agentflow.graph.catalogue import BlockKind
from agentflow.graph.needed_credentials import needed
from agentflow.graph.plan import Plan, PlanNode
from agentflow.graph.run_inputs import missing_inputs
from agentflow.graph.scoped_masks import Masks, masks_of
from agentflow.ids import new_id
from agentflow.services import documents, graphs, runs
from agentflow.services.given import refuse_unstorable
from agentflow.services.plans import document_of, needed_inputs_of, plan_of
from agentflow.services.run_views import output_name
from agentflow.settings import settings
from agentflow.storage import graphs as stored_graphs
from agentflow.storage.runs import NewRun, Parent
from agentflow.storage.views import children
from agentflow.storage.views.children import Child, Found, Taken

MOST_OUTPUTS: Final = 1_000
"""Outputs of a child that its parent takes at once; it is called again for the rest."""

MOST_OUTPUT_BYTES: Final = 4 * 1024 * 1024
"""Bytes in these outputs, as JSON; a larger value comes by itself."""

LONE_NODE: Final = "node"
"""The id of the node in a graph that was made for it alone."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The node execution that starts a child run, and what the child inherits from its run.

    Attributes:
        parent: the node execution, and its call.
        owner_id: whose run it is.
        priority: of the child.
        depth: of its run.
        masks: of its run, as child runs get them.
        own_masks: the same, as they count for the nodes of its run.
    """

    parent: Parent
    owner_id: UUID
    priority: int
    depth: int
    masks: Masks = field(default_factory=dict)
    own_masks: Masks = field(default_factory=dict)


def start_graph(
    session: Session, caller: Caller, graph_id: str, version: int | None, inputs: Mapping[str, Any]
) -> None:
    """Start a run of a graph of the caller's owner, unless it runs already.

    Raises:
        BadInput: there is no such graph, it cannot run with these inputs, or the runs are nested too deep.
    """
    _refuse_too_deep(caller)
    key = _uuid(graph_id)
    head = stored_graphs.find(session, caller.owner_id, key) if key is not None else None
    if head is None:
        raise BadInput(f"there is no graph {graph_id} to run; it was deleted, or never was here")
    try:
        plan = plan_of(session, head.id, version or head.latest_version)
        _refuse_without_credentials(session, caller, plan)
        needed = needed_inputs_of(session, plan.graph_id, plan.version)
        if missing := list(missing_inputs(needed, inputs, masks_of(plan.graph_id, caller.masks))):
            raise GraphInvalid("it lacks inputs", missing)
        _start(session, caller, plan, inputs, caller.masks)
    except (NotFound, Malformed, TooLarge) as error:
        raise BadInput(error.message) from None
    except GraphInvalid as error:
        raise BadInput(f"graph {graph_id}: {_sentence(error)}") from None


def start_node(session: Session, caller: Caller, node: PlanNode, inputs: Mapping[str, Any]) -> None:
    """Start a run of one node by itself, with `inputs` over those of its graph, unless it runs already.

    Raises:
        BadInput: it cannot run with these inputs, or the runs are nested too deep.
    """
    _refuse_too_deep(caller)
    own = node.settings.model_dump(mode="json", exclude={"compensate_with"})  # it names another node of its graph
    document = lone_node(node.block_id, node.input_default, own)
    given = {**caller.own_masks.get(node.id, {}), **inputs}
    try:
        graph_id = graphs.create_inline(session, caller.owner_id, document, imported=True)  # its literals were checked
        _start(session, caller, plan_of(session, graph_id, 1), {}, {LONE_NODE: given})
    except GraphInvalid as error:
        raise BadInput(f"{node.title}: {_sentence(error)}") from None


def lone_node(block_id: str, literals: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The document of a graph of one node."""
    node = {"id": LONE_NODE, "block_id": block_id, "input_default": dict(literals), "settings": dict(settings or {})}
    return {"name": "one node", "nodes": [node], "links": []}


def is_lone(plan: Plan, masks: Masks) -> bool:
    """Whether this is the run of a `lone_node`, which gets its inputs as a mask."""
    return len(plan.nodes) == 1 and plan.nodes[0].id == LONE_NODE and LONE_NODE in masks


def _start(session: Session, caller: Caller, plan: Plan, inputs: Mapping[str, Any], masks: Masks) -> None:
    graph = document_of(session, plan.graph_id, plan.version)
    problems = documents.problems_of_run(graph, inputs, masks)
    if any(problem.severity == "error" for problem in problems):
        raise GraphInvalid("it cannot run", problems)
    refuse_unstorable(inputs)
    priority, parent = caller.priority, caller.parent
    runs.start(session, NewRun(new_id(), caller.owner_id, plan, inputs, masks, priority=priority, parent=parent))


def _refuse_without_credentials(session: Session, caller: Caller, plan: Plan) -> None:
    needs = needed(document_of(session, plan.graph_id, plan.version), catalogue, caller.masks)
    if problems := checking.problems(session, caller.owner_id, needs):
        raise GraphInvalid("it lacks credentials", problems)


@dataclass(frozen=True, slots=True)
class GraphOutcome:
    """The outputs and the state of a child run of a graph.

    Attributes:
        outputs: [name, value] each, since the last call.
        cursor: where the next call continues.
        status: its terminal status; None: there is more to come, or it has not ended.
        error: why it failed or was stopped.
        missing: its run was deleted.
    """

    outputs: list[list[Any]]
    cursor: Mapping[str, Any] | None
    status: RunStatus | None
    error: str | None = None
    missing: bool = False

    def value(self) -> dict[str, Any]:
        """As `Resumed.value` of a `ChildRun` has it."""
        return {**members(self), "status": self.status or RunStatus.RUNNING}


@dataclass(frozen=True, slots=True)
class NodeOutcome:
    """The outputs by pin of a child run of one node, its terminal status, and why it failed or was stopped."""

    outputs: dict[str, list[Any]]
    status: RunStatus
    error: str | None

    def value(self) -> dict[str, Any]:
        """As `Resumed.value` of a `NodeCall` has it."""
        return members(self)


def graph_outcome(session: Session, parent: Parent, cursor: Mapping[str, Any] | None) -> GraphOutcome:
    """The outputs of a node execution's child run since `cursor`, and its state."""
    child = children.find(session, parent)
    if child is None:
        return GraphOutcome([], cursor, RunStatus.FAILED, "its run was deleted", missing=True)
    plan = plan_of(session, child.graph_id, child.graph_version)
    found = _outputs(session, child, plan, _taken(cursor))
    outputs = [[output_name(plan.nodes[line.node], line.name), loads(line.value)] for line in found.lines]
    if not child.ended or found.more:
        return GraphOutcome(outputs, _cursor(found), None)
    return GraphOutcome(outputs, _cursor(found), RunStatus(child.status), child.error or child.stop_reason)


def _outputs(session: Session, child: Child, plan: Plan, taken: Mapping[int, Taken]) -> Found:
    """The next page of the child's outputs that is not empty, or the last page."""
    nodes = [node.number for node in plan.nodes if node.kind is BlockKind.OUTPUT]
    while True:
        found = children.outputs(
            session, child.id, nodes, taken, ended=child.ended, most=MOST_OUTPUTS, most_bytes=MOST_OUTPUT_BYTES
        )
        if found.lines or not found.more:
            return found
        taken = found.taken


def _cursor(found: Found) -> dict[str, Any]:
    nodes = {
        str(node): [taken.upto, [list(one) for one in sorted(taken.unfinished.items())]]
        for node, taken in found.taken.items()
    }
    return {"nodes": nodes, "more": found.more}


def _taken(cursor: Mapping[str, Any] | None) -> dict[int, Taken]:
    nodes = (cursor or {}).get("nodes", {})
    return {int(node): Taken(upto, dict(unfinished)) for node, (upto, unfinished) in nodes.items()}


def has_more(cursor: Mapping[str, Any] | None) -> bool:
    """Whether the child gave more than was taken with this cursor."""
    return bool((cursor or {}).get("more"))


def node_outcome(session: Session, parent: Parent) -> NodeOutcome | None:
    """The outcome of a child run of one node; None: it has not ended."""
    child = children.find(session, parent)
    if child is None:
        return NodeOutcome({}, RunStatus.FAILED, "its run was deleted")
    if not child.ended:
        return None
    return NodeOutcome(lone_outputs(session, child), RunStatus(child.status), child.error or child.stop_reason)


def lone_outputs(session: Session, child: Child) -> dict[str, list[Any]]:
    """The outputs of the run of one node, by pin."""
    outputs: dict[str, list[Any]] = {}
    for pin, text in children.node_outputs(session, child.id, 0):
        outputs.setdefault(pin, []).append(loads(text))
    return outputs


def _refuse_too_deep(caller: Caller) -> None:
    if caller.depth + 1 > settings().max_depth:
        raise BadInput(f"runs are nested deeper than {settings().max_depth} levels: most likely a graph runs itself")


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _sentence(error: GraphInvalid) -> str:
    problems = [problem.message for problem in error.problems if problem.severity == "error"]
    return "; ".join(problems[:5]) or error.message
