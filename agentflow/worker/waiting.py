"""Begins the waits of blocks, and gives them what came when they are called again.

A block's wait becomes a row (`storage/hot/sql/09_waiting.sql`) with the settle that makes the node execution WAITING. A
child run is started just before: if the worker dies in between, the next attempt finds it running.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from agentflow.engine.codec import dumps, loads, members, storable_text
from agentflow.engine.settlement import WaitFor
from agentflow.engine.statuses import RUN_RETRIABLE, RunStatus
from agentflow.engine.waits import Asleep, ChildRun, Event, NodeCall, Resumed, Review, Timer, Wait, Waited
from agentflow.errors import BadInput, BlockBug
from agentflow.graph.names import MAX_NAME, checked_event
from agentflow.ids import new_id
from agentflow.services import child_runs, steering
from agentflow.services.child_runs import Caller, GraphOutcome, NodeOutcome
from agentflow.services.transaction import carry_out, transaction
from agentflow.settings import settings
from agentflow.storage.runs import Parent
from agentflow.worker.attempt import Attempt

_Any = TypeVar("_Any")

_LONGEST: Final = 10 * 366 * 86_400.0
"""Seconds that a wait may be given: ten years."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a worker stores with a wait.

    Attributes:
        state: the block's own.
        node: it waits for one node, not for a graph.
        cursor: how far the child run's outputs were taken.
        failures: failures of the node execution when it began to wait for this child.
        refused: why the node could not be called.
    """

    state: Any = None
    node: bool = False
    cursor: Mapping[str, Any] | None = None
    failures: int = 0
    refused: str | None = None


def begin(attempt: Attempt, wait: Wait | Asleep) -> WaitFor:
    """What to store of `wait`; starts a child run.

    Raises:
        BlockBug: there is no such wait.
        BadInput: the run of a graph cannot be started. (A node that cannot be called with these inputs is a call that
            failed, for the block.)
    """
    if isinstance(wait, ChildRun | NodeCall):
        return _begin_child(attempt, wait)
    if isinstance(wait, Asleep):
        return WaitFor("child", wait.key, None, wait.state)
    state = _kept(Kept(wait.state))
    match wait:
        case Timer():
            return WaitFor("timer", "", _seconds(wait.seconds), state)
        case Event():
            return WaitFor("event", _name(wait.name), _timeout(wait.timeout), state)
        case Review():
            name = storable_text(wait.name or attempt.node.title)
            return WaitFor(
                "review",
                str(new_id()),
                _timeout(wait.timeout),
                state,
                name[:MAX_NAME],
                _bounded(wait.data),
                wait.editable,
            )


def _begin_child(attempt: Attempt, wait: ChildRun | NodeCall) -> WaitFor:
    caller = _caller(attempt, wait.key)
    if isinstance(wait, ChildRun):
        if attempt.claim.wait is None or wait.cursor is None:
            with transaction() as session:
                child_runs.start_graph(session, caller, wait.graph_id, wait.graph_version, wait.inputs)
        kept = _kept(Kept(wait.state, cursor=wait.cursor, failures=attempt.claim.failures))
        # What the child has given is fetched page by page: it may not do anything for long.
        return WaitFor("child", wait.key, 0 if child_runs.has_more(wait.cursor) else None, kept)
    try:
        node = attempt.run.plan.node(wait.node_id)
    except KeyError:
        raise BlockBug(f"the block called the node {wait.node_id!r}, which the graph does not have") from None
    try:
        with transaction() as session:
            child_runs.start_node(session, caller, node, wait.inputs)
    except BadInput as error:  # told to the caller like a failed call
        return WaitFor("child", wait.key, 0, _kept(Kept(wait.state, node=True, refused=error.message)))
    return WaitFor("child", wait.key, None, _kept(Kept(wait.state, node=True)))


def _caller(attempt: Attempt, call: str) -> Caller:
    run = attempt.run
    return Caller(
        parent=Parent(*attempt.key, call),
        owner_id=run.owner_id,
        priority=run.priority if (own := attempt.node.settings.priority) is None else own,
        depth=run.depth,
        masks=run.inherited_masks,
        own_masks=run.masks,
    )


def resumed(attempt: Attempt) -> Resumed | Asleep | None:
    """What the block is called again with; None: it did not wait."""
    if attempt.claim.wait is None:
        return None
    waited = Waited(**loads(attempt.claim.wait))
    kept = Kept(**(waited.state or {}))
    if waited.kind != "child":
        return Resumed(waited.kind, waited.result, kept.state, waited.timed_out)
    if kept.refused is not None:
        refused = NodeOutcome({}, RunStatus.FAILED, kept.refused)
        return Resumed("child", refused.value(), kept.state)
    parent = Parent(*attempt.key, waited.key)
    with transaction() as session:
        if kept.node:
            called = child_runs.node_outcome(session, parent)
            return Asleep(waited.key, _kept(kept)) if called is None else Resumed("child", called.value(), kept.state)
        outcome = child_runs.graph_outcome(session, parent, kept.cursor)
    if outcome.status is None and not outcome.outputs:
        return Asleep(waited.key, _kept(replace(kept, cursor=outcome.cursor)))
    if _failed_before(attempt, kept, outcome) and carry_out(steering.retry_child(parent)):
        return Asleep(waited.key, _kept(replace(kept, failures=attempt.claim.failures)))
    return Resumed("child", outcome.value(), kept.state)


def _failed_before(attempt: Attempt, kept: Kept, outcome: GraphOutcome) -> bool:
    """Whether the node execution failed since it waited for this child, so that the child is retried with it."""
    again = attempt.claim.failures > kept.failures
    return again and outcome.status in RUN_RETRIABLE and not outcome.outputs and not outcome.missing


def _seconds(seconds: float) -> float:
    if not isinstance(seconds, int | float) or not math.isfinite(seconds) or not 0 <= seconds <= _LONGEST:
        raise BlockBug(f"a wait of {seconds!r} seconds: it takes 0 to {_LONGEST:g}")
    return float(seconds)


def _timeout(seconds: float | None) -> float | None:
    return None if seconds is None else _seconds(seconds)


def _name(name: str) -> str:
    try:
        return checked_event(name)
    except ValueError as error:
        raise BlockBug(f"the block waits for an event that cannot be sent: {error}") from None


def _kept(kept: Kept) -> dict[str, Any]:
    return _bounded({name: value for name, value in members(kept).items() if value is not None})


def _bounded(value: _Any) -> _Any:
    """`value`, which is stored as JSON.

    Raises:
        BlockBug: it is not JSON, or too large.
    """
    text = dumps([[value]])  # nested as deeply as it is stored
    if len(text.encode()) > settings().max_value_bytes:
        raise BlockBug(f"what the block keeps while it waits is larger than {settings().max_value_bytes} bytes")
    return value
