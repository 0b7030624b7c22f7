"""Puts node executions to sleep, and tells them what they find when they are woken.

A block's wait becomes a row (`storage/sql/09_waiting.sql`) with the settle that makes the node execution WAITING. A
child run is started just before: if the worker dies in between, the next attempt finds it running.
"""

import math
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from agentflow.engine.codec import dumps, loads, storable_text
from agentflow.engine.settlement import WaitFor
from agentflow.engine.statuses import RUN_RETRIABLE
from agentflow.engine.waits import Asleep, ChildRun, Event, NodeCall, Resumed, Review, Timer, Wait, Waited
from agentflow.errors import BadInput, BlockBug
from agentflow.graph.names import MAX_NAME, checked_event
from agentflow.ids import new_id
from agentflow.services import child_runs, steering
from agentflow.services.child_runs import Caller
from agentflow.services.transaction import transaction
from agentflow.settings import settings
from agentflow.storage.runs import Parent
from agentflow.worker.attempt import Attempt

_Any = TypeVar("_Any")

_LONGEST: Final = 10 * 366 * 86_400.0
"""Seconds that a wait may be given: ten years."""


def begin(attempt: Attempt, wait: Wait | Asleep) -> WaitFor:
    """What is stored of `wait`; a child run is started.

    Raises:
        BlockBug: the wait is none that there can be.
        BadInput: the run of a graph cannot be started. (Of a node that cannot be called with these inputs, the block
            hears as of a call that failed.)
    """
    if isinstance(wait, ChildRun | NodeCall):
        return _begin_child(attempt, wait)
    if isinstance(wait, Asleep):
        return WaitFor("child", wait.key, None, wait.state)
    state = _bounded({"state": wait.state})
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
    content: dict[str, Any] = {"state": wait.state, "node": isinstance(wait, NodeCall)}
    if isinstance(wait, ChildRun):
        content |= {"cursor": wait.cursor, "failures": attempt.claim.failures}
        if attempt.claim.wait is None or wait.cursor is None:
            with transaction() as session:
                child_runs.start_graph(session, caller, wait.graph_id, wait.graph_version, wait.inputs)
    else:
        try:
            node = attempt.run.plan.node(wait.node_id)
        except KeyError:
            raise BlockBug(f"the block called the node {wait.node_id!r}, which the graph does not have") from None
        try:
            with transaction() as session:
                child_runs.start_node(session, caller, node, wait.inputs)
        except BadInput as error:  # who called the node is told, as if the call had failed
            return WaitFor("child", wait.key, 0, _bounded({**content, "refused": error.message}))
    # What the child has given already is fetched page by page: it may be long until it does something again.
    at_once = isinstance(wait, ChildRun) and child_runs.has_more(wait.cursor)
    return WaitFor("child", wait.key, 0 if at_once else None, _bounded(content))


def _caller(attempt: Attempt, call: str) -> Caller:
    run = attempt.run
    return Caller(
        parent=Parent(*attempt.key, call),
        owner_id=run.owner_id,
        priority=run.priority if (own := attempt.node.settings.priority) is None else own,
        depth=run.depth,
        masks=run.masks,
    )


def resumed(attempt: Attempt) -> Resumed | Asleep | None:
    """What the block is called again with; None: it has not waited."""
    if attempt.claim.wait is None:
        return None
    waited = Waited(**loads(attempt.claim.wait))
    content = waited.state or {}
    if waited.kind != "child":
        return Resumed(waited.kind, waited.result, content.get("state"), waited.timed_out)
    if (refused := content.get("refused")) is not None:
        return Resumed("child", {"outputs": {}, "status": "FAILED", "error": refused}, content.get("state"))
    parent = Parent(*attempt.key, waited.key)
    with transaction() as session:
        if content.get("node"):
            called = child_runs.node_outcome(session, parent)
            if called is None:
                return Asleep(waited.key, content)
            return Resumed("child", called, content.get("state"))
        outcome = child_runs.graph_outcome(session, parent, content.get("cursor"))
    if outcome["status"] == "RUNNING" and not outcome["outputs"]:
        return Asleep(waited.key, _bounded({**content, "cursor": outcome["cursor"]}))
    if _failed_before(attempt, content, outcome) and steering.retry_child(parent):
        return Asleep(waited.key, _bounded({**content, "failures": attempt.claim.failures}))
    return Resumed("child", outcome, content.get("state"))


def _failed_before(attempt: Attempt, content: Mapping[str, Any], outcome: Mapping[str, Any]) -> bool:
    """Whether the node execution has failed since it waited for this child and is tried again: then so is the child."""
    again = attempt.claim.failures > content.get("failures", 0)
    return again and outcome["status"] in RUN_RETRIABLE and not outcome["outputs"] and not outcome["missing"]


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


def _bounded(value: _Any) -> _Any:
    """`value`, which is stored as JSON.

    Raises:
        BlockBug: it is not JSON, or too large.
    """
    if len(dumps(value).encode()) > settings().max_value_bytes:
        raise BlockBug(f"what the block keeps while it waits is larger than {settings().max_value_bytes} bytes")
    return value
