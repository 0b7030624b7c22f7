"""Looks after a worker's children: renews their leases, stops and kills them, and runs recovery.

Two threads of the main process, because a block can hold its own process's interpreter lock (a large sort does):

    keeper    every half second: renews the leases of what the children are executing; tells children whose run was
              stopped; kills those that run a block long after its timeout (a timer for each message would cost more,
              and keep its memory). Every few seconds it records which lanes this worker serves. It talks to PostgreSQL
              only, so that no fault of the broker can cost a lease
    recovery  at once: returns the lease of a child that died or was killed; every half second: a pass of the
              installation's chores (`upkeep.py`), if no other worker does it

A child that does not end the block of a stopped run is killed, and Celery replaces it.
"""

import logging
import os
import queue
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final, Literal, NamedTuple

from celery.worker import state as celery_state

from agentflow.clock import monotonic
from agentflow.dispatch.publish import EXECUTE, KILL_GRACE
from agentflow.engine.execution import ExecutionKey
from agentflow.errors import AgentFlowError, Unavailable
from agentflow.logs import log_outage
from agentflow.settings import settings
from agentflow.storage.hot.node_executions import Held, HotConnection, Standing
from agentflow.worker.process import Process, holder
from agentflow.worker.upkeep import Upkeep

logger = logging.getLogger(__name__)

TICK: Final = 0.5
"""Seconds. A stopped run's blocks hear of it within this, and a retry that is due is published."""

SAY_EVERY: Final = 5.0
"""Seconds between two times that a worker says which lanes it serves."""

KILL_STOPPED_AFTER: Final = 10.0
"""Seconds after it was told to stop in which a block may end by itself; then its process is killed."""


class Returned(NamedTuple):
    """A lease whose process is gone. `told`: is called with the state of its node execution then."""

    key: ExecutionKey
    holder: str
    timed_out: bool
    died: bool = True
    told: Callable[[Standing | None], None] | None = None


class _Task(NamedTuple):
    """A node execution that a child executes."""

    key: ExecutionKey
    pid: int
    request: Any  # a `NodeRequest`


class Keeper:
    """The two threads; each has a database connection of its own."""

    def __init__(self) -> None:
        self._hot = HotConnection()
        self._upkeep = Upkeep(Process())
        self._returned: queue.SimpleQueue[Returned | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._told: dict[tuple[ExecutionKey, int], float] = {}
        self._began: dict[str, float] = {}  # message → when it was first seen with a child
        self._steady_since = monotonic()  # since when PostgreSQL has answered
        self._lanes: Callable[[], Sequence[str]] = list
        self._say_at = monotonic()

    def start(self, lanes: Callable[[], Sequence[str]] = list) -> None:
        """Start the threads. `lanes` gives the lanes that this worker serves."""
        self._lanes = lanes
        for name, work in (("keeper", self._keep), ("recovery", self._recover)):
            thread = threading.Thread(target=work, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Stop the threads and wait for them."""
        self._stopping.set()
        self._returned.put(None)
        for thread in self._threads:
            thread.join(timeout=10)

    def return_lease(
        self,
        args: Sequence[Any],
        pid: int | None,
        *,
        timed_out: bool,
        died: bool = True,
        told: Callable[[Standing | None], None] | None = None,
    ) -> None:
        """Return the lease of the process `pid`, which may have died, on what `args` name. Does not wait."""
        if pid is not None:
            self._returned.put(Returned(ExecutionKey.of_task(args), holder(pid), timed_out, died, told))

    def _keep(self) -> None:
        while not self._stopping.wait(TICK):
            try:
                self._look_after(_executing())
                self._say_what_is_served()
            except AgentFlowError as error:
                self._steady_since = monotonic()
                log_outage(logger, "renewal_postponed", error)
            except Exception:
                logger.exception("renewal_failed")
        self._hot.close()

    def _recover(self) -> None:
        pending: Returned | None = None
        while not self._stopping.is_set():
            try:
                pending = pending or self._next_returned()
                if pending is not None:
                    stands = self._upkeep.recovery.return_lease(
                        pending.key, pending.holder, pending.timed_out, pending.died
                    )
                    told, pending = pending.told, None
                    if told is not None:
                        told(stands)
                else:
                    self._upkeep.run_pass()
            except Unavailable as error:
                log_outage(logger, "recovery_postponed", error)
                self._upkeep.recovery.was_interrupted()
                self._stopping.wait(TICK)
            except Exception:
                logger.exception("recovery_failed")
                pending = None
                self._stopping.wait(TICK)
        self._upkeep.close()

    def _next_returned(self) -> Returned | None:
        """The next lease to return; waits for one for at most a tick."""
        try:
            return self._returned.get(timeout=TICK)
        except queue.Empty:
            return None

    def _look_after(self, executing: Sequence[_Task]) -> None:
        self._renew(executing)
        self._end_overruns(executing)

    def _say_what_is_served(self) -> None:
        if monotonic() >= self._say_at:
            self._hot.serve(self._lanes())
            self._say_at = monotonic() + SAY_EVERY

    def _renew(self, executing: Sequence[_Task]) -> None:
        if not executing:
            self._told.clear()
            return
        held = {task.key: task for task in executing}
        leases = [Held(holder(one.pid), one.key) for one in held.values()]
        for key, stop in self._hot.renew(leases, settings().lease_seconds):
            if stop:
                self._tell(held[key])
        self._told = {(key, pid): at for (key, pid), at in self._told.items() if key in held and held[key].pid == pid}

    def _tell(self, task: _Task) -> None:
        """Tell a child to stop, and kill it if it does not."""
        first = self._told.setdefault((task.key, task.pid), monotonic())
        if monotonic() - first > KILL_STOPPED_AFTER:
            _kill(task, "stopped")
        else:
            _send(task.pid, signal.SIGUSR2)

    def _end_overruns(self, executing: Sequence[_Task]) -> None:
        """Kill children whose block still runs long after its timeout.

        Not while PostgreSQL is away, nor just after: a block may have ended in time and not be settled yet.
        """
        now = monotonic()
        self._began = {task.request.id: self._began.get(task.request.id, now) for task in executing}
        if now - self._steady_since < KILL_GRACE:
            return
        for task in executing:
            limit = task.request.kill_after
            if limit is not None and now - self._began[task.request.id] > limit:
                _kill(task, "overran")


def _kill(task: _Task, why: Literal["overran", "stopped"]) -> None:
    (run_id, node, idx), pid = task.key, task.pid
    if pid != os.getpid():
        task.request.killed_for = why
        logger.warning("child_killed", extra={"run": str(run_id), "node": node, "index": idx, "child": pid, "why": why})
    _send(pid, signal.SIGKILL)


def _send(pid: int, number: int) -> None:
    if pid == os.getpid():
        return  # the solo pool: the block is stopped where it yields
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _executing() -> list[_Task]:
    """What the children execute."""
    requests: list[Any] = []
    for _ in range(3):
        try:
            requests = list(celery_state.active_requests)
            break
        except RuntimeError:  # the main thread changed the set meanwhile
            continue
    return [
        _Task(ExecutionKey.of_task(request.args), request.worker_pid, request)
        for request in requests
        if request.type == EXECUTE and request.worker_pid is not None
    ]


@cache
def keeper() -> Keeper:
    """The keeper of this worker."""
    return Keeper()
