"""Deletes all that belongs to a user: cancels their runs, waits for these to end, then deletes batch by batch.

Each batch is a transaction of its own, and what is left says what is to do next: whoever goes on after a crash needs to
know nothing. The user's row goes last, when no request of theirs can still be under way.
"""

from contextlib import suppress
from typing import Final
from uuid import UUID

from agentflow.credits import store as credits
from agentflow.engine.statuses import RunStatus
from agentflow.errors import AlreadyEnded, NotFound
from agentflow.services.cancellation import stop_tree
from agentflow.services.transaction import Step, Steps
from agentflow.storage import owners

RUNS_AT_ONCE: Final = 100
"""Runs that one turn cancels."""

BATCHES: Final = 10
"""Batches that one turn deletes, of at most `owners.MOST_ROWS` rows a table."""


def remove(user_id: UUID, *, may_be_last: bool) -> Steps[bool]:
    """Take a turn at deleting what a user has, and where nothing is left and `may_be_last`, the user.

    Returns:
        whether the user is gone.
    """
    for run_id in (yield Step(owners.open_runs, user_id, RUNS_AT_ONCE)):
        with suppress(AlreadyEnded, NotFound):
            yield from stop_tree(run_id, RunStatus.CANCELLED, "its user is being deleted")
    if (yield Step(owners.has_open_runs, user_id)):
        return False
    yield Step(credits.post, user_id, None)  # the ledger outlives them
    for _ in range(BATCHES):
        if (yield Step(owners.delete_some, user_id)):
            if may_be_last:
                yield Step(owners.delete_user, user_id)
            return may_be_last
    return False
