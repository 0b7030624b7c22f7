"""Runs the chores of the whole installation.

A chore is done now and then by whichever worker: recovery, admission, and what features add. `CHORES` lists them in the
order of a pass. The worker that does a pass is elected by an advisory lock of its database connection, so another takes
over when it dies, or is frozen for longer than a lease. `SHARED` are done by every worker, beside the others.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from agentflow.clock import monotonic, now
from agentflow.errors import Unavailable
from agentflow.notifications import planning, summaries, watching
from agentflow.settings import settings
from agentflow.worker import notifying
from agentflow.worker.process import Process
from agentflow.worker.recovery import MOST_EXECUTIONS, MOST_RUNS, Recovery

logger = logging.getLogger(__name__)

_LOCK: Final = 0x41465245  # "AFRE": one pass at a time

_IDLE_AT_LEAST: Final = 10.0
"""Seconds without a statement after which a process counts as frozen; or its lease's, if that is longer."""

_SOMETIMES: Final = 2.0
"""Seconds between two turns of what looks at whole runs, or asks the broker."""

_RARELY: Final = 60.0
"""Seconds between two turns of what only tidies up."""


_SELDOM: Final = 300.0
"""Seconds between two turns of what looks at what ran."""


@dataclass(frozen=True, slots=True)
class Chore:
    """One periodic task of the installation.

    Attributes:
        name: in logs and metrics.
        act: does one turn; returns how many things it acted on.
        most: things that a turn looks at, at most.
        every: seconds between two turns; 0: in each pass (twice a second).
    """

    name: str
    act: Callable[[Recovery], int]
    most: int
    every: float = _SOMETIMES


CHORES: Final = (
    Chore("ask_broker", Recovery.ask_broker, MOST_EXECUTIONS),
    Chore("stop_overdue_runs", Recovery.stop_overdue_runs, MOST_EXECUTIONS),
    Chore("stop_orphans", Recovery.stop_orphans, MOST_EXECUTIONS),
    Chore("pass_down", Recovery.pass_down, MOST_RUNS),
    Chore("follow_users", Recovery.follow_users, MOST_RUNS),
    Chore("post_charges", Recovery.post_charges, MOST_RUNS),
    Chore("drop_holds", Recovery.drop_holds, MOST_EXECUTIONS),
    Chore("reap_slots", Recovery.reap_slots, MOST_EXECUTIONS),
    Chore("drop_limits", Recovery.drop_limits, MOST_EXECUTIONS, every=_RARELY),
    Chore("admit_runs", Recovery.admit_runs, MOST_EXECUTIONS),
    Chore("end_forgotten_runs", Recovery.end_forgotten_runs, MOST_RUNS),
    Chore("cancel_previous", Recovery.cancel_previous, MOST_RUNS),
    Chore("examine_runs", Recovery.examine_runs, MOST_EXECUTIONS),
    Chore("summarise", notifying.summarise, summaries.MOST, every=_RARELY),
    Chore("watch_blocks", notifying.watch_blocks, watching.MOST_OWNERS, every=_SELDOM),
    Chore("watch_credentials", notifying.watch_credentials, watching.MOST_CREDENTIALS, every=_SELDOM),
    Chore("tell_of_dead_letters", notifying.tell_of_dead_letters, watching.MOST_LETTERS, every=_RARELY),
    Chore("tidy_notifications", notifying.tidy, notifying.MOST_DELETED, every=_RARELY),
    Chore("repair_overdue", Recovery.repair_overdue, MOST_EXECUTIONS, every=0),
    Chore("plan_notifications", notifying.plan, planning.MOST, every=0),
)

SHARED: Final = (Chore("fire_schedules", Recovery.fire_schedules, MOST_EXECUTIONS, every=0),)
"""What workers do at the same time, each taking what no other has locked."""


class Upkeep:
    """The passes of one worker, on a connection of its own.

    Attributes:
        recovery: does its repairs.
    """

    def __init__(self, process: Process) -> None:
        self.recovery = Recovery(process)
        self._process = process
        self._last_pass = now()
        self._due: dict[str, float] = {}  # chore → when its next turn is due

    def close(self) -> None:
        """Close the connection."""
        self._process.hot.close()

    def run_pass(self) -> None:
        """Do what is due: what is shared, and the rest unless another worker does a pass.

        Raises:
            Unavailable: PostgreSQL does not answer.
        """
        hot = self._process.hot
        self._take_turns(SHARED)
        if not hot.try_lock(_LOCK, max(settings().lease_seconds, _IDLE_AT_LEAST)):
            self._last_pass = now()
            return
        try:
            if (now() - self._last_pass).total_seconds() > settings().lease_seconds / 3:
                self.recovery.was_interrupted()  # this host slept, or PostgreSQL stalled: for the others perhaps, too
            self._take_turns(CHORES)
            self._last_pass = now()
        finally:
            hot.unlock(_LOCK)

    def _take_turns(self, chores: Sequence[Chore]) -> None:
        """Do the chores that are due."""
        for chore in chores:
            if monotonic() >= self._due.get(chore.name, 0.0):
                self._due[chore.name] = monotonic() + chore.every
                self._take_turn(chore)

    def _take_turn(self, chore: Chore) -> None:
        """Do one chore. If it fails, the others go on."""
        began = monotonic()
        try:
            done = chore.act(self.recovery)
        except Unavailable:
            raise
        except Exception:
            logger.exception("chore_failed", extra={"chore": chore.name})
            return
        if done:
            fields = {"chore": chore.name, "done": done, "seconds": round(monotonic() - began, 3)}
            logger.debug("chore_done", extra=fields)
