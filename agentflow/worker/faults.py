"""Counts failures of the engine itself at a node execution or a run, and ends it FAILED after `max_losses` of them.

What a block does wrong is an outcome of its attempt. Failures of the engine are others: it could not claim, load,
settle, route or finalise something. Most likely a block broke the engine in this process (it patched a library, or
closed a file), so the task is tried again in a fresh process. If the fault is in the run, that would never end: so each
failure is counted in PostgreSQL, by statements that read nothing of the run, and its cause is logged. A process that
dies while it finalises a run cannot count that: so a repeated message is counted ahead.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple
from uuid import UUID

from agentflow.dispatch import wake
from agentflow.engine.execution import ExecutionKey, Lease
from agentflow.engine.routing import Batch, Router
from agentflow.engine.settlement import Transition, settlement
from agentflow.engine.statuses import UNSERVED, NodeStatus
from agentflow.engine.wording import fault_words
from agentflow.errors import Unavailable
from agentflow.ids import new_token
from agentflow.logs import log_outage
from agentflow.services.cancellation import stop_children
from agentflow.services.transaction import carry_out
from agentflow.settings import settings
from agentflow.worker.endings import postgres_away
from agentflow.worker.error_facts import error_facts, stored_inputs
from agentflow.worker.follow import follow, publish_others
from agentflow.worker.process import Process, RunContext, holder, process
from agentflow.worker.reports import report

logger = logging.getLogger(__name__)

FAILED_TASK: Final = 1
"""The exit code of a process that failed at a task, has counted that, and shall be replaced."""

_AGAIN: Final = frozenset({"queued", "counted"})

_DIED: Final = "worker processes died again and again before they could begin with this"

_DIED_ENDING: Final = "worker processes died again and again when they were to end this run"


@contextmanager
def counted(where: ExecutionKey | UUID) -> Iterator[None]:
    """Count failures of the body, a task's work on a node execution or on a run as a whole (its id).

    Raises:
        Retry: PostgreSQL does not answer, which is not counted.
        SystemExit: it failed, and its message goes back to the broker, for another process.
        Exception: it failed, and there is nothing to try again.
    """
    try:
        yield
    except Unavailable as error:
        log_outage(logger, "task_postponed", error)
        raise postgres_away(error) from None
    except Exception as error:
        state = process()
        with state.lock:
            state.hot.close()  # whatever it is in the middle of
        _log(error, where)
        if _count(state, _message(error), where) in _AGAIN:
            raise SystemExit(FAILED_TASK) from error
        raise


def count(state: Process, error: Exception, where: ExecutionKey | UUID) -> None:
    """Log and count that the engine failed with `error`; after too many, end the node execution or the run.

    If the node execution has ended (what follows its end failed), the run is counted.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    _log(error, where)
    if _count(state, _message(error), where) == "gone" and isinstance(where, ExecutionKey):
        _count(state, _message(error), where.run_id)


def count_death(state: Process, key: ExecutionKey, by: str) -> str:
    """Count that the process `by` died with the task of a node execution, also before it had claimed it.

    Returns:
        what became of the node execution; `queued`: it runs again, and the caller publishes it.
    """
    return _count(state, _DIED, key, died_as=by)


@contextmanager
def counted_ahead(state: Process, run_id: UUID) -> Iterator[int]:
    """Finalise a run in the body, at which an earlier process may have died, as this one may.

    It is counted before and counted back afterwards. Yields the count, this time included; 0: the run has ended,
    perhaps because of too many.
    """
    with state.lock:
        times = state.hot.count_ahead(run_id, settings().max_losses)
    if times is None:
        _count_run(state, _DIED_ENDING, run_id, -1)
        yield 0
        return
    try:
        yield times
    except BaseException:
        with state.lock:
            state.hot.close()  # whatever it is in the middle of
        raise
    finally:
        with state.lock:
            state.hot.count_back(run_id)


def give_up_unserved(state: Process, key: ExecutionKey, lane: str, seconds: float) -> None:
    """End a node execution FAILED that no worker has come for in so many seconds, if that is still so.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    message = f"no worker has served the queue {lane!r} for {seconds:.0f} seconds (AGENTFLOW_UNSERVED_SECONDS)"
    _count_execution(state, key, Transition.failed(UNSERVED, message), bearable=-1)


def _count(state: Process, message: str, where: ExecutionKey | UUID, died_as: str | None = None) -> str:
    """What became of it; `gone`: there is nothing to count."""
    run_id = where if isinstance(where, UUID) else where.run_id
    state.forget(run_id)
    try:
        if isinstance(where, UUID):
            return _count_run(state, message, run_id, settings().max_losses)
        failed = Transition.failed("system", message)
        return _count_execution(state, where, failed, bearable=settings().max_losses, died_as=died_as)
    except Unavailable:
        raise
    except Exception as error:
        _log(error, where)
        return "not counted"


def _log(error: Exception, where: ExecutionKey | UUID) -> None:
    run_id, node, idx = (where, None, None) if isinstance(where, UUID) else where
    logger.error("engine_failed", exc_info=error, extra={"run": str(run_id), "node": node, "index": idx})


def _message(error: Exception) -> str:
    return f"the engine failed at this, and that again and again: {fault_words(error)}"


def _count_execution(
    state: Process, key: ExecutionKey, failed: Transition, *, bearable: int, died_as: str | None = None
) -> str:
    """Count a fault; beyond `bearable` the node execution ends as `failed`. `died_as`: the process that died at it."""
    heir = Lease(new_token(), died_as or holder(), settings().lease_seconds)
    with state.lock:
        fault = state.hot.fault(key, heir, died=died_as is not None, bearable=bearable)
    wake(key.run_id)
    if fault.verdict != "gone":
        fields = {"run": str(key.run_id), "node": key.node, "index": key.idx, "losses": fault.losses}
        logger.warning("fault_counted", extra={**fields, "reason": failed.error})
    if fault.verdict == "poisoned":
        try:
            run = state.run(key.run_id)
            if run is not None:
                settle_taken(state, run, key, Claimed(heir, fault.attempt or 0, fault.emitted or 0), failed)
        except Unavailable:
            raise
        except Exception as error:  # not even its failure can be settled
            _log(error, key)
            with state.lock:
                state.hot.close()
            _count_run(state, failed.error or "", key.run_id, -1)
    return fault.verdict


def _count_run(state: Process, message: str, run_id: UUID, bearable: int) -> str:
    with state.lock:
        fault = state.hot.fault_of_run(run_id, bearable, message)
    wake(run_id)
    if fault.verdict != "gone":
        fields = {"run": str(run_id), "losses": fault.losses, "verdict": fault.verdict, "reason": message}
        logger.warning("run_fault_counted", extra=fields)
    if fault.verdict == "given_up":
        state.forget(run_id)
        if fault.woken is not None:
            publish_others(state, [fault.woken])
        carry_out(stop_children(run_id))
    return fault.verdict


class Claimed(NamedTuple):
    """An attempt taken over from its worker: its lease, its number, and how many outputs it has stored."""

    lease: Lease
    attempt: int
    emitted: int


def settle_taken(state: Process, run: RunContext, key: ExecutionKey, taken: Claimed, transition: Transition) -> None:
    """Settle an attempt for a worker that cannot; if it failed for good, its error goes to the error pin."""
    batch, router = Batch(first=taken.emitted), Router(run.plan.nodes[key.node])
    if transition.status is NodeStatus.FAILED:
        facts = _facts(run, key, taken.attempt, transition.reason) if router.selects_from_error else None
        router.add_error(batch, transition.error or "", taken.attempt, facts)
    in_child_run = run.parent_run_id is not None
    made = settlement(run.plan, key, taken.lease, batch, transition, in_child_run=in_child_run, has_slots=True)
    with state.lock:
        settled = state.hot.settle(made)
    follow(state, run, made, settled)
    if settled.verdict == "landed":
        report(state, run, made, taken.attempt)


def _facts(run: RunContext, key: ExecutionKey, attempt: int, reason: str | None) -> dict[str, Any]:
    """What an error pin tells beside the message; its inputs only if they can be read."""
    try:
        inputs = stored_inputs(run, key)
    except Unavailable:
        raise
    except Exception:  # most likely they are what is wrong
        inputs = {}
    return error_facts(run, key, attempt, reason, inputs)
