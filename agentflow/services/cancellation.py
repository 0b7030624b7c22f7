"""How does someone stop a run? The durable flag first; the workers learn of it at their next look."""

from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.dispatch import ring_finaliser
from agentflow.engine.statuses import RunStatus
from agentflow.errors import NotFound
from agentflow.schemas.runs import CancelAccepted
from agentflow.services.transaction import after_commit
from agentflow.storage import run_views, runs

STATEMENT_SECONDS: Final = 120.0
"""For the transaction of `cancel`: it closes all node executions that wait, and they may be a million."""


def cancel(session: Session, owner_id: UUID, run_id: UUID, reason: str) -> CancelAccepted:
    """Cancel a run: what waits ends at once, what runs is told. Cancelling twice is fine; the first one counts.

    Raises:
        NotFound: the owner has no such run.
        AlreadyEnded: it has ended.
    """
    if run_views.find(session, owner_id, run_id) is None:
        raise NotFound(f"there is no run {run_id}")
    outcome = runs.stop(session, run_id, RunStatus.CANCELLED, reason)
    if outcome.running == 0:
        after_commit(session, lambda: ring_finaliser(run_id))
    run = run_views.find(session, owner_id, run_id)
    assert run is not None
    return CancelAccepted(id=run_id, status=run.status, cancel_requested_at=run.cancel_requested_at)
