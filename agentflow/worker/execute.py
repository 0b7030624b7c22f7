"""Takes a node execution through a worker: claim → load → perform → settle.

Each step is one function. `perform` turns everything that a block can do into an Outcome; `transition_of` turns that
into the move of the node execution.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from billiard.common import terminate_handler_fired

from agentflow.blocks import registry
from agentflow.blocks.base import Block
from agentflow.dispatch import publish
from agentflow.engine.codec import loads
from agentflow.engine.execution import ExecutionKey, Lease
from agentflow.engine.inputs import collect, prepare
from agentflow.engine.outcome import Completed, Failed, Outcome, Stopped, Waiting, failure, reported
from agentflow.engine.retry import after_failure
from agentflow.engine.settlement import COMPLETED, Transition
from agentflow.engine.waits import Asleep, Resumed, Wait
from agentflow.errors import BadInput, BlockBug, Interrupted, NotFound, TimedOut, Unavailable
from agentflow.graph.catalogue import ERROR_PIN, BlockKind
from agentflow.graph.plan import PlanNode
from agentflow.ids import new_token
from agentflow.logs import put_handlers_back, redact_lines
from agentflow.settings import settings
from agentflow.storage.gathering import group_size
from agentflow.storage.hot.node_executions import Limits, SlotLimit
from agentflow.worker import caching, credentials, waiting
from agentflow.worker.attempt import Attempt
from agentflow.worker.billing import price_ahead
from agentflow.worker.context import context
from agentflow.worker.endings import NodeExecutionStopped, ending, lost
from agentflow.worker.follow import end_if_quiescent
from agentflow.worker.generators import iterate
from agentflow.worker.interrupts import Interrupts
from agentflow.worker.process import Process, RunContext, holder, process
from agentflow.worker.reports import report
from agentflow.worker.shutdown import is_stopping

logger = logging.getLogger(__name__)
_END = object()


@cache
def interrupts() -> Interrupts:
    """This process's alarm."""
    return Interrupts()


def execute(key: ExecutionKey) -> Exception | None:
    """Run one node execution, if it can still be claimed. Returns how its task ends (`endings.py`); None: it succeeds.

    Raises:
        Unavailable: PostgreSQL does not answer.
        SystemExit: this process was told to end.
    """
    redact_lines(None)  # only now: a thread that the last block left behind may have logged since
    attempt = claim(process(), key)
    if not isinstance(attempt, Attempt):
        return attempt
    try:
        outcome = perform(attempt)
    except credentials.SlotMissing:  # the next attempt takes it
        attempt.return_lease()
        return None
    except SystemExit:
        # This process is told to end. (After a timeout the main process does that, and settles the attempt.) Unless its
        # worker stops, the main process counts this attempt as lost, like any that died with its child.
        if attempt.interrupts.cause is None and is_stopping():
            attempt.return_lease()
        raise
    finally:
        put_handlers_back()
    ended = settle(attempt, outcome)
    if terminate_handler_fired():  # the block swallowed it; this process would take all later failures for losses
        raise SystemExit
    return ended


def claim(state: Process, key: ExecutionKey) -> Attempt | NodeExecutionStopped | None:
    """Claim the node execution.

    Returns:
        the attempt; else how the task ends: its run was stopped, or (None) there is nothing to do: a duplicate
        message, a paused run, no place under a limit.
    """
    run = state.run(key.run_id)
    if run is None:
        return None
    if run.stopped:  # before its plan is read
        with state.lock:
            state.hot.close_stopped(key)
            run.wake()
            end_if_quiescent(state.hot, run)
        return NodeExecutionStopped("its run was stopped")
    if not 0 <= key.node < len(run.plan.nodes):
        return None
    node = run.plan.nodes[key.node]
    lease = Lease(new_token(), holder(), settings().lease_seconds)
    pins = list(node.pins)
    if node.name is not None and "value" not in node.pins:
        pins.append("value")  # the inputs of a run are delivered there
    alone = credentials.slots(state, run, key, pins)
    limits = _limits(run, node, alone or ())
    # A cache hit needs no slot and no place in a rate. Without a limit the look after the claim is enough.
    kept = caching.look_ahead(state, run, key, pins) if limits else None
    if kept is not None:
        limits = Limits(run.owner_id, (), None, None, False, run.priority)
    price = None if limits else price_ahead(run.owner_id, node)
    with state.lock:
        claimed = state.hot.claim(key, pins, lease, limits, price)
        if claimed.verdict in ("stopped", "paused", "held") and claimed.last:
            end_if_quiescent(state.hot, run)
    publish(run, claimed.ready)
    run.wake_unless_awake()
    if claimed.verdict == "stopped":
        return NodeExecutionStopped("its run was stopped")
    if claimed.verdict != "claimed":
        return None
    attempt = Attempt(state, interrupts(), run, key, lease, claimed)
    attempt.kept_before = kept
    attempt.has_slots = alone is not None
    attempt.slots = frozenset(one.key for one in alone or ())
    return attempt


def _limits(run: RunContext, node: PlanNode, alone: Collection[SlotLimit]) -> Limits | None:
    """What a claim is under; `alone`: slots of credentials that one node execution at a time may use."""
    slots, rate = node.settings.concurrency, node.settings.rate_limit
    if slots is None and rate is None and not alone:
        return None
    own = [SlotLimit(run.owner_id, _slot_key(run, node, slots.key), slots.limit)] if slots else []
    return Limits(
        run.owner_id,
        [*own, *alone],
        f"rate:{rate.key}" if rate else None,
        rate.per_second if rate else None,
        node.kind is BlockKind.AGENT,
        run.priority if node.settings.priority is None else node.settings.priority,
    )


def _slot_key(run: RunContext, node: PlanNode, key: str) -> str:
    """The key of a concurrency limit. Each level of nesting has its own slots: a sub-graph node that holds one must
    never wait for a slot that a node above it holds."""
    return f"children:{run.depth}:{key}" if node.kind is BlockKind.AGENT else f"slot:{key}"


def load(attempt: Attempt) -> tuple[Block, dict[str, Any]]:
    """The node's block, and its inputs by pin, coerced to the pins' types.

    Raises:
        BadInput: the inputs do not fit, or the block is not installed here.
    """
    node = attempt.node
    try:
        block = registry.get(node.block_id)
    except NotFound as error:
        raise BadInput(error.message) from None
    delivered: Mapping[str, Any] = loads(attempt.claim.inputs) if attempt.claim.inputs else {}
    collected = collect(node, delivered, attempt.run.masks.get(node.id))
    return block, prepare(collected, block.spec())


def gather(attempt: Attempt, pin: str, given: dict[str, Any]) -> bool:
    """Put the group that this execution completes into `given["items"]`; False: it completes none."""
    group = group_size(given.get("size"))
    with attempt.process.lock:
        text = attempt.process.hot.gathered(attempt.key, pin, group)
    if text is not None:
        given["items"] = loads(text)
    return text is not None


def perform(attempt: Attempt) -> Outcome:
    """Run the block to its end, and turn whatever it yields, returns or raises into an Outcome.

    Raises:
        SlotMissing: it must not run without the slot of a credential, and has not begun.
        Unavailable: PostgreSQL does not answer.
    """
    timeout = attempt.node.timeout or settings().node_timeout
    try:
        block, given = load(attempt)
        if block.gathers is not None and not gather(attempt, block.gathers, given):
            return Completed()
        if attempt.kept_before is None and not credentials.load(attempt, block.spec(), given):
            return Completed()
        inputs = block.parse(given)
        resumed = waiting.resumed(attempt)
        if isinstance(resumed, Asleep):
            return Waiting(resumed)
        cached = caching.find(attempt, block, inputs) if resumed is None else None
        if cached is None and block.spec().costs:  # a hit costs nothing
            with attempt.process.lock:
                priced = credentials.priced(attempt, block.spec(), given)
                attempt.tab.open(attempt.process.hot, attempt.key, block, priced)
    except (Unavailable, credentials.SlotMissing):
        raise
    except BaseException as error:  # validators of a block's own input model may raise anything
        if terminate_handler_fired():
            raise
        return failure(error)
    alarm = attempt.interrupts
    with alarm.attempt(timeout, attempt.flush_in_background, lambda: is_stopped(attempt)):
        try:
            return _outcome(attempt, block, inputs, resumed, cached)
        except Interrupted:
            if alarm.cause == "timeout":
                return failure(TimedOut(f"the block ran longer than {timeout:g} s"))
            return Stopped() if alarm.cause == "stopped" else failure(BlockBug(f"{block.name} interrupted itself"))


def _outcome(
    attempt: Attempt, block: Block, inputs: Any, resumed: Resumed | None, cached: list[tuple[str, Any]] | None
) -> Outcome:
    """Run the block to its end, or take its cached outputs.

    Raises:
        Interrupted: its time is over, or its run was stopped.
        Unavailable: what it yielded cannot be stored. Its lease is returned, and it runs again.
    """
    try:
        return _drive(attempt, block, inputs, resumed) if cached is None else _repeat(attempt, block, cached)
    except (Interrupted, Unavailable):
        raise
    except BaseException as error:  # SystemExit and the like too: a block cannot end its worker
        if terminate_handler_fired():  # not the block's: this process is told to end
            raise
        with attempt.interrupts.block():  # the text of its errors is the block's code, too
            return failure(error)


def _repeat(attempt: Attempt, block: Block, cached: list[tuple[str, Any]]) -> Outcome:
    for pin, value in cached:
        attempt.repeat(block, pin, value)
    return Completed()


def _drive(attempt: Attempt, block: Block, inputs: Any, resumed: Resumed | None) -> Outcome:
    """Take the block's values one by one until it ends, waits, or yields `error`."""
    alarm = attempt.interrupts
    with alarm.block():
        values = iterate(block.run(inputs, context(attempt, resumed)), block)
    try:
        while True:
            with alarm.block():
                item = next(values, _END)
            if item is _END:
                return Completed()
            if isinstance(item, Wait):
                return Waiting(item)
            pin, value = _pair(item, block)
            if pin == ERROR_PIN and not block.open_outputs:  # there `error` is a name like any other
                with alarm.block():
                    return reported(value)
            attempt.emit(block, pin, value)
    finally:
        values.close()


def _pair(item: Any, block: Block) -> tuple[str, Any]:
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str):
        return item
    raise BlockBug(f"{block.name} yielded {type(item).__name__}, not a pair of pin and value, or a wait")


def is_stopped(attempt: Attempt) -> bool:
    """Ask the database whether the attempt's run was stopped."""
    with attempt.process.lock:
        return attempt.process.hot.stop_flag(attempt.run.run_id)


def settle(attempt: Attempt, outcome: Outcome) -> Exception | None:
    """Record the outcome, and do what follows. Returns how the task ends; None: it succeeds."""
    transition = transition_of(attempt, outcome)
    if transition.error is not None:
        transition = replace(transition, error=attempt.redacted(transition.error))
    made, settled = attempt.settle(transition)
    if settled is None or settled.verdict == "lost":
        with attempt.process.lock:
            return lost(attempt.process.hot.standing(attempt.key))
    if settled.verdict == "landed":
        if made.transition is COMPLETED:
            caching.keep(attempt)
        trace = attempt.redacted(outcome.trace) if isinstance(outcome, Failed) and outcome.trace else None
        report(attempt.process, attempt.run, made, attempt.claim.attempt, trace)
    return ending(made.transition, settled)


def transition_of(attempt: Attempt, outcome: Outcome) -> Transition:
    """The move of the node execution for this outcome."""
    if isinstance(outcome, Completed):
        return COMPLETED
    if isinstance(outcome, Waiting):
        try:
            return Transition.waiting(waiting.begin(attempt, credentials.withheld(attempt, outcome.wait)))
        except Unavailable:
            raise
        except Exception as error:  # a wait has its own output
            outcome = failure(error)
    if isinstance(outcome, Stopped):
        return Transition.stopped()
    return after_failure(attempt.node.settings.retry, outcome, attempt.claim.failures)
