"""Repairs what a crash, a lost message or a dead host left behind.

Each method is a chore of `upkeep.py`, or repairs one node execution. Every statement is bounded, and right even if two
workers run it at once. One index (`check_at`) finds what to look at, so a pass without work costs nothing.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final
from uuid import UUID

from agentflow.clock import monotonic
from agentflow.dispatch import backlog, publish, publish_examination, publish_finaliser
from agentflow.engine.execution import ExecutionKey, Lease
from agentflow.engine.outcome import failure
from agentflow.engine.retry import after_failure
from agentflow.engine.settlement import Transition
from agentflow.engine.statuses import FailureReason
from agentflow.errors import AlreadyEnded, TimedOut, Unavailable
from agentflow.ids import new_token
from agentflow.schedules import firing
from agentflow.schedules import store as schedules
from agentflow.services import admission, steering, users
from agentflow.services.cancellation import cancel_superseded, stop_orphan, stop_unbegun
from agentflow.services.transaction import carry_out, transaction
from agentflow.settings import settings
from agentflow.storage.hot.node_executions import OVERRAN, Overdue, Standing
from agentflow.storage.runs import Ready
from agentflow.worker import faults
from agentflow.worker.finalise import finalise
from agentflow.worker.follow import end_if_quiescent, publish_others, release, stop_run
from agentflow.worker.process import Process, RunContext, holder

logger = logging.getLogger(__name__)

MOST_EXECUTIONS: Final = 2_000
"""Node executions, and runs to be stopped, that one turn looks at."""

MOST_RUNS: Final = 1_000
"""Open runs that one turn looks at; the next turn goes on behind them."""

_CHECKED_NOW: Final = 5_000  # node executions made due in one go when the broker's queues have become empty
_ENDED_AT_MOST: Final = 50  # forgotten runs ended in a turn
_PASSED_DOWN_WITHIN: Final = 10.0  # seconds; two may do it at a time
_FIRING_SECONDS: Final = 2.0  # of a pass; the other chores wait meanwhile
_USERS_AT_ONCE: Final = 10  # users who were suspended, resumed or deleted that one turn looks at
_PUBLISHED_UNSERVED: Final = 3  # how often something in an unserved lane is published again
_FIRST = UUID(int=0)

_EXPIRED: Final = "its worker was lost"
_DIED: Final = "its worker process died"
_OVERRAN: Final = "the block ran longer than its timeout, and its process had to be killed"


class Recovery:
    """The repairs of one worker, on a connection of its own."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._steady_since = monotonic()
        self._after = _FIRST
        self._backlog: int | None = None  # messages that wait at the broker; None: it is away

    def was_interrupted(self) -> None:
        """Note an outage of PostgreSQL: nobody could renew, so leases do not count as run out for a while."""
        self._steady_since = monotonic()

    @contextmanager
    def faults_counted(self, where: ExecutionKey | UUID | None = None) -> Iterator[None]:
        """Count a failed repair in the body (an unreadable plan, say), and go on with the others."""
        try:
            yield
        except Unavailable:
            raise
        except Exception as error:
            if where is None:
                logger.exception("not_repaired")
            else:
                faults.count(self._process, error, where)

    def ask_broker(self) -> int:
        """Ask how many messages wait at the broker. If none do, make due what was put off behind its queues."""
        self._backlog = backlog()
        return self._process.hot.check_now(_CHECKED_NOW) if self._backlog == 0 else 0

    def repair_overdue(self) -> int:
        """Repair node executions that are due for a look."""
        if self._backlog is None:
            return 0  # nobody would hear, and each try doubles the wait until the next
        lease = settings().lease_seconds
        steady = monotonic() - self._steady_since >= lease
        found = self._process.hot.overdue(lease, MOST_EXECUTIONS, self._backlog > 0, steady)
        for item in found:
            with self.faults_counted(item.key):
                self._repair(item)
        return len(found)

    def reap_slots(self) -> int:
        """Free slots of concurrency limits that nobody uses, and publish who gets one."""
        found = self._process.hot.reap_slots(MOST_EXECUTIONS)
        publish_others(self._process, found)
        return len(found)

    def drop_limits(self) -> int:
        """Drop the limits of credentials that are gone."""
        return self._process.hot.drop_limits(MOST_EXECUTIONS)

    def admit_runs(self) -> int:
        """Admit runs of owners with runs in line for a place."""
        admitted = 0
        for owner_id in self._process.hot.owners_in_line(MOST_EXECUTIONS):
            with self.faults_counted():
                admitted += carry_out(admission.admit(owner_id))
        return admitted

    def _repair(self, item: Overdue) -> None:
        key = item.key
        run = self._process.run(key.run_id)
        if run is None:
            return
        if item.action == "publish":
            self._publish_again(run, key)
        elif item.action == "wake":
            if self._process.hot.wake_due(key):
                run.wake()
                publish(run, [Ready(key.node, key.idx)])
        elif item.action == "release":
            release(self._process.hot, run, key._replace(idx=key.idx - 1))
            end_if_quiescent(self._process.hot, run)
        elif (
            item.token is not None
            and self._return_lease(run, key, item.token, timed_out=False, expired=True) == "queued"
        ):
            publish(run, [Ready(key.node, key.idx)])

    def _publish_again(self, run: RunContext, key: ExecutionKey) -> None:
        """Publish it again; a few times only in an unserved lane, where messages pile up, before it is given up."""
        lane = run.plan.nodes[key.node].lane
        seconds, published = self._process.hot.unserved(key, lane) or (0.0, 0)
        if seconds > settings().unserved_seconds:
            faults.give_up_unserved(self._process, key, lane, seconds)
        elif published <= _PUBLISHED_UNSERVED:
            publish(run, [Ready(key.node, key.idx)])

    def stop_overdue_runs(self) -> int:
        """Stop runs whose deadline has passed, that have not begun in time, or that who was to stop them has not."""
        found = self._process.hot.overdue_runs(MOST_EXECUTIONS)
        for run_id, reason in found:
            with self.faults_counted(run_id):
                if reason is None:
                    cancel_superseded([run_id])
                elif reason is FailureReason.QUEUE_TIMEOUT:
                    with suppress(AlreadyEnded):
                        carry_out(stop_unbegun(run_id))
                elif (run := self._process.run(run_id)) is not None:
                    stop_run(run, reason)
        return len(found)

    def post_charges(self) -> int:
        """Add to the ledger what settled node executions have cost."""
        return self._process.hot.post_some(MOST_RUNS, settings().credits_low) if settings().credits else 0

    def drop_holds(self) -> int:
        """Let go of credits that are held for node executions that have ended without a settlement."""
        return self._process.hot.drop_holds(MOST_EXECUTIONS) if settings().credits else 0

    def stop_orphans(self) -> int:
        """Stop child runs that nobody waits for any more."""
        found = self._process.hot.orphans(MOST_EXECUTIONS)
        for run_id in found:
            with self.faults_counted(run_id):
                carry_out(stop_orphan(run_id))
        return len(found)

    def pass_down(self) -> int:
        """Pause or resume the child runs of runs for which whoever was to do it died."""
        found = self._process.hot.half_steered(_PASSED_DOWN_WITHIN, MOST_RUNS)
        for owner_id, run_id in found:
            with self.faults_counted():
                carry_out(steering.pass_down(owner_id, run_id))
        return len(found)

    def follow_users(self) -> int:
        """Take a turn at what the suspension, return or deletion of users has left to do."""
        found = self._process.hot.users_to_follow(_PASSED_DOWN_WITHIN, _USERS_AT_ONCE)
        for user_id in found:
            with self.faults_counted():
                carry_out(users.follow(user_id))
        return len(found)

    def fire_schedules(self) -> int:
        """Fire the schedules that are due, and occurrences that waited."""
        return firing.fire(_FIRING_SECONDS) if self._process.hot.schedules_due() else 0

    def cancel_previous(self) -> int:
        """Cancel runs for which a later one of their schedule waits, if whoever was to do it died."""
        with transaction(looks=True) as session:
            found = schedules.runs_to_cancel(session, MOST_RUNS)
        firing.cancel_previous(found)
        return len(found)

    def examine_runs(self) -> int:
        """Publish again the runs that moderation should have examined by now."""
        found = self._process.hot.to_examine(MOST_EXECUTIONS)
        for run_id in found:
            publish_examination(run_id)
        return len(found)

    def notifications_due(self) -> tuple[bool, bool]:
        """Whether notifications are to be planned, and whether workers are to be called for channels."""
        return self._process.hot.notifications_due()

    def end_forgotten_runs(self) -> int:
        """End open runs in which nothing is busy. Here and not by a message, which might wait behind long blocks."""
        forgotten, last = self._process.hot.forgotten_runs(self._after, MOST_RUNS)
        self._after = last or _FIRST
        for run_id in forgotten[:_ENDED_AT_MOST]:
            with self.faults_counted(run_id):
                self._end_forgotten(run_id)
        return len(forgotten)

    def _end_forgotten(self, run_id: UUID) -> None:
        """End one. If that failed before, a child of a worker tries it, because this process has other work."""
        with faults.counted_ahead(self._process, run_id) as times:
            if times == 1:
                finalise(run_id, self._process)
            elif times > 1:
                publish_finaliser(run_id, again=True)

    def return_lease(self, key: ExecutionKey, held_by: str, timed_out: bool, died: bool = True) -> Standing | None:
        """Return the lease of a process of this worker that cannot go on with a node execution, before it runs out.

        It `died`, unless it only could not settle. Without a lease, its death counts all the same.

        Returns:
            the node execution's state then; None: there is none.
        """
        hot = self._process.hot
        token = hot.lease_of(key, held_by)
        run = self._process.run(key.run_id) if token is not None else None
        if run is not None and token is not None:
            verdict = self._return_lease(run, key, token, timed_out=timed_out, expired=False)
        else:
            verdict = faults.count_death(self._process, key, held_by) if died else "gone"
        stands = hot.standing(key)
        if verdict == "queued" and (again := self._process.run(key.run_id)) is not None:
            publish(again, [Ready(key.node, key.idx)])
        return stands

    def _return_lease(self, run: RunContext, key: ExecutionKey, token: UUID, *, timed_out: bool, expired: bool) -> str:
        """Return its lease: it is `queued`, for the caller to publish; or it is closed, or `gone`."""
        own = run.plan.nodes[key.node].settings
        bearable = settings().max_losses if own.max_losses is None else own.max_losses
        if timed_out:
            bearable = OVERRAN
        elif own.on_worker_lost == "fail":
            bearable = 0
        heir = Lease(new_token(), holder(), settings().lease_seconds)
        loss = self._process.hot.return_lease(key, token, heir, expired=expired, bearable=bearable)
        run.wake()
        fields = {"run": str(key.run_id), "node": key.node, "index": key.idx}
        reason = "timeout" if timed_out else "worker_lost"
        logger.warning("lease_lost", extra={**fields, "reason": reason, "verdict": loss.verdict})
        if loss.verdict == "poisoned":
            transition = Transition.failed("worker_lost", _EXPIRED if expired else _DIED)
            if timed_out:
                transition = after_failure(own.retry, failure(TimedOut(_OVERRAN)), loss.failures or 0)
            taken = faults.Claimed(heir, loss.attempt or 0, loss.emitted or 0)
            faults.settle_taken(self._process, run, key, taken, transition)
        elif loss.verdict == "stopped":
            end_if_quiescent(self._process.hot, run)
        return loss.verdict
