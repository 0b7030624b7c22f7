"""Pauses the runs of a user who is suspended, and lets exactly those go on when the user is resumed.

Each run, child runs too, is paused by itself and marked (`runs.suspended`). A run that its owner had paused has no mark
and stays as it is. A child run that begins meanwhile takes over its parent's pause and mark. A user's own pause or
resume that is still being passed down to child runs waits, and goes on when the user is back (`half_steered`).
"""

from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.dispatch import PublishedRun, publish, publish_finaliser, wake
from agentflow.errors import Unavailable
from agentflow.services.plans import plan_of_run
from agentflow.services.steering import STATEMENT_SECONDS
from agentflow.services.transaction import Step, Steps, after_commit
from agentflow.storage import steering
from agentflow.storage.views import runs as run_views

MOST_AT_ONCE: Final = 100
"""Runs that one turn pauses or resumes."""


def suspend(owner_id: UUID) -> Steps[bool]:
    """Pause runs of a suspended user, up to `MOST_AT_ONCE`, parents first; returns whether none is left."""
    found = yield Step(steering.to_suspend, owner_id, MOST_AT_ONCE)
    for run_id in found:
        yield Step(steering.suspend, owner_id, run_id, statement_seconds=STATEMENT_SECONDS)
        wake(run_id)
    return len(found) < MOST_AT_ONCE


def resume(owner_id: UUID) -> Steps[bool]:
    """Let runs go on that were paused because their owner was suspended, up to `MOST_AT_ONCE`, parents first.

    Returns:
        whether none is left.
    """
    found = yield Step(steering.suspended, owner_id, MOST_AT_ONCE)
    for run_id in found:
        yield Step(_resume, owner_id, run_id, statement_seconds=STATEMENT_SECONDS)
    return len(found) < MOST_AT_ONCE


def _resume(session: Session, owner_id: UUID, run_id: UUID) -> None:
    outcome = steering.unsuspend(session, owner_id, run_id)
    if outcome is None or outcome.verdict != "resumed":
        return
    after_commit(session, lambda: wake(run_id))
    run = run_views.find_any(session, run_id)
    assert run is not None
    try:
        plan = plan_of_run(session, run)
    except Unavailable:
        raise
    except Exception:  # an unreadable plan must not keep the run's owner from it: recovery counts the fault
        return
    after_commit(session, lambda: publish(PublishedRun(run.id, plan, run.priority), outcome.ready))
    after_commit(session, lambda: publish_finaliser(run.id))  # there may be nothing to publish
