"""Repairs what a crash, a lost message or a dead host left behind.

Any worker may do a pass, one at a time; every statement is bounded, and right even if two did it at once. What to look
at is found by one index (`check_at`), so that a pass over nothing costs nothing.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from agentflow.clock import monotonic, now
from agentflow.dispatch import backlog, publish, ring_finaliser
from agentflow.engine.execution import ExecutionKey, Lease
from agentflow.engine.settlement import Transition
from agentflow.errors import Unavailable
from agentflow.ids import new_token
from agentflow.services import admission
from agentflow.services.cancellation import stop_orphan
from agentflow.settings import settings
from agentflow.storage.node_executions import Overdue, Standing
from agentflow.storage.runs import Ready
from agentflow.worker import faults
from agentflow.worker.finalise import finalise
from agentflow.worker.follow import end_if_quiescent, publish_others, release, stop_run
from agentflow.worker.process import Process, RunContext, holder

logger = logging.getLogger(__name__)

_LOCK: Final = 0x41465245  # "AFRE": one recovery pass at a time
_BATCH: Final = 2_000  # node executions looked at in a pass
_RECALLED: Final = 5_000  # node executions made due at once when the broker's queues have become empty
_ENDED_AT_MOST: Final = 50  # forgotten runs ended in a pass
_RUNS_EVERY: Final = 2.0  # seconds between looks at whole runs, and at how much waits at the broker
_RUNS: Final = 1_000  # runs looked at in a pass; the next pass goes on behind them
_RINGS_UNSERVED: Final = 3  # how often what waits for a worker to come for its lane is published again
_FIRST = UUID(int=0)

_DIED: Final = "its worker process died"
_OVERRAN: Final = "the block ran longer than its timeout, and its process had to be killed"


class Recovery:
    """The passes of one worker, on the keeper's connection."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._steady_since = monotonic()
        self._last_pass = now()
        self._after = _FIRST
        self._runs_at = 0.0
        self._backlog: int | None = None  # messages that wait at the broker; None: it is away

    def close(self) -> None:
        """Give the connection back."""
        self._process.hot.close()

    def was_interrupted(self) -> None:
        """The database was away: nobody could renew, so leases do not count as run out for a while."""
        self._steady_since = monotonic()

    def run_pass(self) -> None:
        """Look after what is overdue; and, every few seconds, after runs that nobody will end."""
        hot = self._process.hot
        if not hot.try_lock(_LOCK):
            self._last_pass = now()
            return
        try:
            lease = settings().lease_seconds
            if (now() - self._last_pass).total_seconds() > lease / 3:
                self.was_interrupted()  # this host slept, or PostgreSQL stood still: the others may have, too
            if monotonic() >= self._runs_at:
                self._runs_at = monotonic() + _RUNS_EVERY
                self._look_at_runs()
            for item in self._overdue(lease):
                with self._others_go_on(item.key):
                    self._mend(item)
            self._last_pass = now()
        finally:
            hot.unlock(_LOCK)

    @contextmanager
    def _others_go_on(self, where: ExecutionKey | UUID | None = None) -> Iterator[None]:
        """What cannot be mended (its plan cannot be read, say) keeps us from nothing else; it is counted, and ends."""
        try:
            yield
        except Unavailable:
            raise
        except Exception as error:
            if where is None:
                logger.exception("not_mended")
            else:
                faults.count(self._process, error, where)

    def _overdue(self, lease: float) -> list[Overdue]:
        if self._backlog is None:
            return []  # nobody hears us ring; and each time that we do, we wait longer until the next
        steady = monotonic() - self._steady_since >= lease
        return self._process.hot.overdue(lease, _BATCH, self._backlog > 0, steady)

    def _look_at_runs(self) -> None:
        self._backlog = backlog()
        if self._backlog == 0:
            self._process.hot.recall(_RECALLED)
        self._stop_overdue_runs()
        self._stop_orphans()
        publish_others(self._process, self._process.hot.reap_slots(_BATCH))
        for owner_id in self._process.hot.owners_in_line(_BATCH):
            with self._others_go_on():
                admission.admit(owner_id)
        self._look_at_forgotten_runs()

    def _mend(self, item: Overdue) -> None:
        key = item.key
        run = self._process.run(key.run_id)
        if run is None:
            return
        if item.action == "ring":
            self._ring(run, key)
        elif item.action == "wake":
            if self._process.hot.wake_due(key):
                publish(run, [Ready(key.node, key.idx)])
        elif item.action == "release":
            release(self._process.hot, run, key._replace(idx=key.idx - 1))
            end_if_quiescent(self._process.hot, run)
        elif item.token is not None:
            lost = Transition.failed("worker_lost", "its worker was lost")
            if self._lose(run, key, item.token, lost, expired=True) == "queued":
                publish(run, [Ready(key.node, key.idx)])

    def _ring(self, run: RunContext, key: ExecutionKey) -> None:
        """Publish it again; but where nobody serves its lane messages only pile up, and in the end it is given up."""
        lane = run.plan.nodes[key.node].lane
        seconds, rings = self._process.hot.unserved(key, lane) or (0.0, 0)
        if seconds > settings().unserved_seconds:
            faults.give_up_unserved(self._process, key, lane, seconds)
        elif rings <= _RINGS_UNSERVED:
            publish(run, [Ready(key.node, key.idx)])

    def _stop_overdue_runs(self) -> None:
        for run_id, reason in self._process.hot.overdue_runs(_BATCH):
            with self._others_go_on(run_id):
                if (run := self._process.run(run_id)) is not None:
                    stop_run(run, reason)

    def _stop_orphans(self) -> None:
        for run_id in self._process.hot.orphans(_BATCH):
            with self._others_go_on(run_id):
                stop_orphan(run_id)

    def _look_at_forgotten_runs(self) -> None:
        """Here and now, not by a message: it might wait behind long blocks, and be rung again and again meanwhile."""
        forgotten, last = self._process.hot.forgotten_runs(self._after, _RUNS)
        self._after = last or _FIRST
        for run_id in forgotten[:_ENDED_AT_MOST]:
            with self._others_go_on(run_id):
                self._end_forgotten(run_id)

    def _end_forgotten(self, run_id: UUID) -> None:
        """Where that went wrong before, a child of a worker tries it: this process has others to look after."""
        with faults.counted_ahead(self._process, run_id) as times:
            if times == 1:
                finalise(run_id, self._process)
            elif times > 1:
                ring_finaliser(run_id, again=True)

    def take_back(self, key: ExecutionKey, held_by: str, timed_out: bool, died: bool = True) -> Standing | None:
        """A process of this worker is done for with this node execution: do not wait for its lease to run out.

        It `died`, unless it only could not settle; where it had no lease yet, its death counts all the same.

        Returns:
            how the node execution stands then; None: there is none.
        """
        hot = self._process.hot
        token = hot.lease_of(key, held_by)
        run = self._process.run(key.run_id) if token is not None else None
        if run is not None and token is not None:
            lost = Transition.failed("timeout", _OVERRAN) if timed_out else Transition.failed("worker_lost", _DIED)
            verdict = self._lose(run, key, token, lost, expired=False)
        else:
            verdict = faults.count_death(self._process, key, held_by) if died else "gone"
        stands = hot.standing(key)
        if verdict == "queued" and (again := self._process.run(key.run_id)) is not None:
            publish(again, [Ready(key.node, key.idx)])
        return stands

    def _lose(self, run: RunContext, key: ExecutionKey, token: UUID, lost: Transition, *, expired: bool) -> str:
        """Take its lease away: it is `queued`, for the caller to publish; or it has ended as `lost`, or is `gone`."""
        own = run.plan.nodes[key.node].settings
        bearable = settings().max_losses if own.max_losses is None else own.max_losses
        if lost.reason == "timeout" or own.on_worker_lost == "fail":
            bearable = -1
        heir = Lease(new_token(), holder(), settings().lease_seconds)
        loss = self._process.hot.lose(key, token, heir, expired=expired, bearable=bearable)
        fields = {"run": str(key.run_id), "node": key.node, "index": key.idx}
        logger.warning("lease_lost", extra={**fields, "reason": lost.reason, "verdict": loss.verdict})
        if loss.verdict == "poisoned":
            faults.fail(self._process, run, key, faults.Claimed(heir, loss.attempt or 0, loss.emitted or 0), lost)
        return loss.verdict
