"""Lists the blocks that graphs can use, and runs one on a worker, as the only node of a run of its own."""

from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.blocks import registry
from agentflow.graph.catalogue import BlockKind
from agentflow.schemas.blocks import BlockResult
from agentflow.services import child_runs, submissions, waiting
from agentflow.services.child_runs import LONE_NODE, lone_node
from agentflow.services.submissions import Wanted
from agentflow.services.transaction import Step, Steps
from agentflow.storage.views import children

_SHAPING: Final = {
    BlockKind.INPUT: ("name",),
    BlockKind.OUTPUT: ("name",),
    BlockKind.AGENT: ("graph_id", "graph_version", "input_schema", "output_schema"),
}
"""The input pins that say what a node is, and so cannot come with a run."""


def every() -> list[dict[str, Any]]:
    """The public descriptions of all blocks that graphs may use, by name."""
    return [block.info() for block in registry.every() if block.enabled]


def get(block_id: str) -> dict[str, Any]:
    """The public description of one block, by id.

    Raises:
        NotFound: there is no such block.
    """
    return registry.get(block_id).info()


def start(session: Session, owner_id: UUID, block_id: str, inputs: Mapping[str, Any]) -> UUID:
    """Run a block; the id of its run.

    Raises:
        NotFound: there is no such block.
        GraphInvalid: it cannot run with these inputs; names the pins.
    """
    block = registry.get(block_id)
    # Only what shapes the node is part of its graph, so that one stored graph serves all runs of a block.
    literals = {pin: inputs[pin] for pin in _SHAPING.get(block.kind, ()) if pin in inputs}
    masks = {LONE_NODE: {pin: value for pin, value in inputs.items() if pin not in literals}}
    wanted = Wanted(masks=masks, allow_missing_inputs=True)  # an input node without a value gives nothing
    return submissions.submit(session, owner_id, lone_node(block.id, literals), wanted).run_id


def wait(run_id: UUID, patience: float, pause: Callable[[float], bool]) -> Steps[BlockResult]:
    """The result of a block's run, or its state after `patience` seconds.

    Args:
        pause: waits so many seconds; true: nobody wants the result any more.
    """
    yield from waiting.until_ended(run_id, patience, pause)
    result: BlockResult = yield Step(look, run_id)
    return result


def look(session: Session, run_id: UUID) -> BlockResult:
    """The state of a block's run."""
    run = children.get(session, run_id)
    assert run is not None
    outputs = child_runs.lone_outputs(session, run) if run.ended else {}
    return BlockResult(run_id=run_id, status=run.status, outputs=outputs, error=run.error or run.stop_reason)
