"""What follows a user's suspension, return or deletion: by recovery, and cut short by a death."""

from typing import Any

from probes import Rows

from agentflow.services.transaction import Steps
from agentflow.worker.process import process
from agentflow.worker.upkeep import Upkeep


def upkeep(rows: Rows) -> None:
    """What recovery does once the process that was to follow is gone for long enough."""
    recovery = Upkeep(process())
    for _ in range(20):
        rows("UPDATE users SET follow_at = now() WHERE follow_at IS NOT NULL RETURNING 1")
        recovery.recovery.follow_users()


def die_after(steps: Steps[Any], number: int) -> None:
    """Carry out the first steps of a use case, and no more."""
    came = None
    for _ in range(number):
        try:
            came = (steps.send(came)).carry_out()
        except StopIteration:
            return
    steps.close()
