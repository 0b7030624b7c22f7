"""Waits for the end of a run, for callers who want its result in the reply."""

from collections.abc import Callable
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow import clock
from agentflow.services.transaction import Look, Steps
from agentflow.storage.views import children

_ASKED_EVERY: Final = 0.05
"""Seconds between looks at the run; longer and longer, up to `_ASKED_AT_LEAST_EVERY`."""

_ASKED_AT_LEAST_EVERY: Final = 0.5


def until_ended(run_id: UUID, patience: float, pause: Callable[[float], bool]) -> Steps[bool]:
    """Wait until a run has ended, for `patience` seconds at most. Returns whether it has.

    Args:
        run_id: the run; it is there.
        patience: seconds.
        pause: waits so many seconds; true: nobody wants the result any more.
    """
    give_up_at = clock.monotonic() + patience
    seconds = _ASKED_EVERY
    while True:
        ended: bool = yield Look(_has_ended, run_id)
        left = give_up_at - clock.monotonic()
        if ended or left <= 0 or pause(min(seconds, left)):
            return ended
        seconds = min(seconds * 1.5, _ASKED_AT_LEAST_EVERY)


def _has_ended(session: Session, run_id: UUID) -> bool:
    run = children.get(session, run_id)
    return run is not None and run.ended
