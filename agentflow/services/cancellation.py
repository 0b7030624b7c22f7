"""Stops runs: sets a durable flag, which workers see at their next look.

Child runs are stopped too, each in a transaction of its own, because nobody waits for a run's gate while holding
another's. If this process dies, recovery stops the rest (`agentflow_orphans`).
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.dispatch import publish_finaliser, wake
from agentflow.engine.statuses import RunStatus
from agentflow.errors import AgentFlowError, AlreadyEnded, NotFound
from agentflow.logs import log_outage
from agentflow.schemas.runs import BulkCancelled, CancelAccepted
from agentflow.services.transaction import Step, Steps, after_commit, carry_out
from agentflow.storage import runs
from agentflow.storage.runs import StopOutcome
from agentflow.storage.views import runs as run_views
from agentflow.storage.views.runs import RunFilter

logger = logging.getLogger(__name__)

STATEMENT_SECONDS: Final = 120.0
"""For a transaction that stops a run: it closes all node executions that wait, and they may be a million."""

MOST_AT_ONCE: Final = 1000
"""Runs that one bulk request cancels."""


def cancel(session: Session, owner_id: UUID, run_id: UUID, reason: str) -> CancelAccepted:
    """Cancel a run: what waits ends at once, what runs is interrupted. The first cancellation counts.

    Raises:
        NotFound: the owner has no such run.
        AlreadyEnded: it has ended.
    """
    if run_views.find(session, owner_id, run_id) is None:
        raise NotFound(f"there is no run {run_id}")
    outcome = runs.stop(session, run_id, RunStatus.CANCELLED, reason)
    after_commit(session, lambda: wake(run_id))
    if outcome.running == 0:
        after_commit(session, lambda: publish_finaliser(run_id))
    after_commit(session, lambda: carry_out(stop_children(run_id)))
    run = run_views.find(session, owner_id, run_id)
    assert run is not None
    return CancelAccepted(id=run_id, status=run.status, cancel_requested_at=run.cancel_requested_at)


def cancel_all(owner_id: UUID, wanted: RunFilter, reason: str) -> Steps[BulkCancelled]:
    """Cancel the owner's open runs that `wanted` describes, the newest first, up to `MOST_AT_ONCE` of them.

    Each in a transaction of its own; one that ends meanwhile is skipped.
    """
    found = yield Step(run_views.open_ids, owner_id, wanted, MOST_AT_ONCE + 1)
    cancelled = []
    for run_id in found[:MOST_AT_ONCE]:
        with suppress(AlreadyEnded, NotFound):
            yield Step(cancel, owner_id, run_id, reason, statement_seconds=STATEMENT_SECONDS)
            cancelled.append(run_id)
    return BulkCancelled(cancelled=cancelled, count=len(cancelled), more=len(found) > MOST_AT_ONCE)


def stop_tree(run_id: UUID, stop_as: RunStatus, reason: str) -> Steps[None]:
    """Stop a run and its child runs.

    Raises:
        NotFound: there is no such run.
        AlreadyEnded: it has ended.
    """
    stopped = yield Step(runs.stop, run_id, stop_as, reason, statement_seconds=STATEMENT_SECONDS)
    yield from _follow(run_id, stopped)


def stop_orphan(run_id: UUID) -> Steps[None]:
    """Stop a child run and its children, unless somebody waits for it (again)."""
    why = "nothing waits for this child run any more"
    stopped = yield Step(runs.stop_orphan, run_id, why, statement_seconds=STATEMENT_SECONDS)
    if stopped is not None:
        yield from _follow(run_id, stopped)


def stop_unbegun(run_id: UUID) -> Steps[None]:
    """Stop a run that has not begun in time, to end FAILED, unless it has begun meanwhile."""
    stopped = yield Step(runs.stop_unbegun, run_id, statement_seconds=STATEMENT_SECONDS)
    if stopped is not None:
        yield from _follow(run_id, stopped)


def cancel_superseded(run_ids: Sequence[UUID]) -> None:
    """Cancel runs whose place a later one takes. Recovery does what is left here."""
    for run_id in run_ids:
        try:
            carry_out(stop_tree(run_id, RunStatus.CANCELLED, "a later run took its place"))
        except (AlreadyEnded, NotFound):
            continue
        except AgentFlowError as error:
            log_outage(logger, "superseded_run_not_cancelled", error)


def _follow(run_id: UUID, stopped: StopOutcome) -> Steps[None]:
    wake(run_id)
    if stopped.running == 0:
        publish_finaliser(run_id)
    yield from stop_children(run_id)


def stop_children(run_id: UUID) -> Steps[None]:
    """Stop the child runs of a run that was stopped."""
    for child in (yield Step(runs.open_children, run_id)):
        with suppress(AlreadyEnded):
            yield from stop_tree(child, RunStatus.CANCELLED, "the run that it belongs to was stopped")
