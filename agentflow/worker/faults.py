"""Counts where the engine itself fails at a node execution or a run, and ends it FAILED after `max_losses` times.

What a block does wrong is an outcome of its attempt. What comes here is the engine's: something could not be claimed,
loaded, settled, routed or finalised. The first thing to think of is that a block broke the engine in this process (it
patched a library, or closed a file), so the task gets a fresh one, and the same is tried again. If it is the run that
cannot be worked on, that would go on for ever: so each failure is counted in PostgreSQL, by statements that read
nothing of the run, and its cause is logged. Who dies of finalising a run can count nothing: so what comes again is
counted ahead.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

from agentflow.engine.routing import Batch, Router
from agentflow.engine.statuses import UNSERVED
from agentflow.engine.wording import fault_words
from agentflow.errors import Unavailable
from agentflow.graph.plan import PlanNode
from agentflow.ids import new_token
from agentflow.logs import log_outage
from agentflow.services.cancellation import stop_children
from agentflow.settings import settings
from agentflow.storage.node_executions import Change
from agentflow.worker.endings import postgres_away
from agentflow.worker.error_facts import error_facts, stored_inputs
from agentflow.worker.follow import failed, follow, publish_others
from agentflow.worker.process import Process, RunContext, holder, process
from agentflow.worker.reports import report

logger = logging.getLogger(__name__)

FAILED_TASK: Final = 1
"""The exit code of a process that failed at a task, has counted that, and shall be replaced."""

_AGAIN: Final = frozenset({"queued", "counted"})

_DIED: Final = "worker processes died again and again before they could begin with this"

_DIED_ENDING: Final = "worker processes died again and again when they were to end this run"


@contextmanager
def counted(run_id: UUID, node: int | None = None, idx: int | None = None) -> Iterator[None]:
    """A task works here on a node execution, or (None) on a run as a whole.

    Raises:
        Retry: PostgreSQL does not answer: nobody's fault.
        SystemExit: it failed, and shall be tried again in another process: its message goes back to the broker.
        Exception: it failed, and there is nothing to try again: its message goes.
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
        _log(error, run_id, node, idx)
        if _count(state, _message(error), run_id, node, idx, by=holder()) in _AGAIN:
            raise SystemExit(FAILED_TASK) from error
        raise


def count(state: Process, error: Exception, run_id: UUID, node: int | None = None, idx: int | None = None) -> None:
    """The engine failed with `error`: log it, count it, and end the node execution or the run if it was too often.

    Where the node execution is not there to be counted (it has ended, and what follows from that failed), the run is.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    _log(error, run_id, node, idx)
    if _count(state, _message(error), run_id, node, idx, by=holder()) == "gone" and node is not None:
        _count(state, _message(error), run_id, by=holder())


def count_death(state: Process, run_id: UUID, node: int, idx: int, by: str) -> str:
    """The process `by` died with the task of a node execution; if it was before it had claimed it, that counts too.

    Returns:
        what became of the node execution; `queued`: it is to run again, and the caller publishes it.
    """
    return _count(state, _DIED, run_id, node, idx, died=True, by=by)


@contextmanager
def counted_ahead(state: Process, run_id: UUID) -> Iterator[int]:
    """A run is finalised here, and who tried it before may have died of it. So may this process, and then cannot count.

    So it is counted before, and counted back after. Yields how often it is counted, this time included; 0: it has
    ended, also because that was too often.
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


def give_up_unserved(state: Process, run_id: UUID, node: int, idx: int, lane: str, seconds: float) -> None:
    """No worker has come for a node execution, for so many seconds: it ends FAILED, if it is still so.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    message = f"no worker has served the queue {lane!r} for {seconds:.0f} seconds (AGENTFLOW_UNSERVED_SECONDS)"
    _count_execution(state, message, run_id, node, idx, died=False, by=holder(), bearable=-1, reason=UNSERVED)


def _count(
    state: Process,
    message: str,
    run_id: UUID,
    node: int | None = None,
    idx: int | None = None,
    *,
    died: bool = False,
    by: str,
) -> str:
    """What became of it: `gone` where there is nothing to count."""
    state.forget(run_id)
    try:
        if node is None or idx is None:
            return _count_run(state, message, run_id, settings().max_losses)
        return _count_execution(
            state, message, run_id, node, idx, died=died, by=by, bearable=settings().max_losses, reason="system"
        )
    except Unavailable:
        raise
    except Exception as error:
        _log(error, run_id, node, idx)
        return "not counted"


def _log(error: Exception, run_id: UUID, node: int | None, idx: int | None) -> None:
    logger.error("engine_failed", exc_info=error, extra={"run": str(run_id), "node": node, "index": idx})


def _message(error: Exception) -> str:
    return f"the engine failed at this, and that again and again: {fault_words(error)}"


def _count_execution(
    state: Process,
    message: str,
    run_id: UUID,
    node: int,
    idx: int,
    *,
    died: bool,
    by: str,
    bearable: int,
    reason: str,
) -> str:
    token = new_token()
    with state.lock:
        fault = state.hot.fault(
            run_id,
            node,
            idx,
            by,
            died=died,
            bearable=bearable,
            token=token,
            lease=settings().lease_seconds,
        )
    if fault.verdict != "gone":
        fields = {"run": str(run_id), "node": node, "index": idx, "losses": fault.losses, "reason": message}
        logger.warning("fault_counted", extra=fields)
    if fault.verdict == "poisoned":
        try:
            run = state.run(run_id)
            if run is not None:
                fail(state, run, (node, idx), token, fault.emitted or 0, fault.attempt or 0, reason, message)
        except Unavailable:
            raise
        except Exception as error:  # not even that it failed can be settled
            _log(error, run_id, node, idx)
            with state.lock:
                state.hot.close()
            _count_run(state, message, run_id, -1)
    return fault.verdict


def _count_run(state: Process, message: str, run_id: UUID, bearable: int) -> str:
    with state.lock:
        fault = state.hot.fault_of_run(run_id, bearable, message)
    if fault.verdict != "gone":
        fields = {"run": str(run_id), "losses": fault.losses, "verdict": fault.verdict, "reason": message}
        logger.warning("run_fault_counted", extra=fields)
    if fault.verdict == "given_up":
        state.forget(run_id)
        if fault.woken is not None:
            publish_others(state, [fault.woken])
        stop_children(run_id)
    return fault.verdict


def fail(
    state: Process,
    run: RunContext,
    key: tuple[int, int],
    token: UUID,
    emitted: int,
    attempt: int,
    reason: str,
    message: str,
) -> None:
    """End the node execution whose lease is `token` FAILED, in the place of the worker that could not."""
    node, idx = key
    batch = Batch(first=emitted)
    own = run.plan.nodes[node]
    router = Router(own)
    router.add_error(
        batch, message, attempt, _facts(run, own, idx, attempt, reason) if router.selects_from_error else None
    )
    change = failed(run, node, Change("FAILED", reason, message, frees=own.settings.concurrency is not None))
    with state.lock:
        settled = state.hot.settle(
            run.plan, run.run_id, node, idx, token, batch, change, settings().lease_seconds, own.ordered
        )
    follow(state, run, node, settled, final=True, stops=change.stops)
    if settled.verdict == "landed":
        report(state, run, key, attempt, change)


def _facts(run: RunContext, node: PlanNode, idx: int, attempt: int, reason: str) -> dict[str, Any]:
    """What an error pin tells beside the message; what it was given, only where that can be read."""
    try:
        inputs = stored_inputs(run, node, idx)
    except Unavailable:
        raise
    except Exception:  # most likely that is what is wrong with it
        inputs = {}
    return error_facts(run, node, idx, attempt, reason, inputs)
