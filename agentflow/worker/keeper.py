"""What does a worker's main process do for its children, and for the whole installation?

A thread of the main process, because a block can hold its own process's interpreter lock (a regular expression does):

    every half second renew the leases of what the children are executing; tell children whose run was stopped;
                      one pass of recovery (`recovery.py`), if no other worker is at it
    at once           give back the lease of a child that died or was killed

A child that does not let go of a stopped run's block is killed, and Celery replaces it.
"""

import logging
import os
import queue
import signal
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple
from uuid import UUID

from celery.worker import state as celery_state

from agentflow.clock import monotonic
from agentflow.dispatch.publish import EXECUTE
from agentflow.errors import AgentFlowError
from agentflow.settings import settings
from agentflow.worker.process import Process, holder
from agentflow.worker.recovery import Recovery

logger = logging.getLogger(__name__)

TICK: Final = 0.5
"""Seconds. A stopped run's blocks hear of it within this, and a retry that is due is published."""

KILL_AFTER: Final = 10.0
"""Seconds after it was told to stop in which a block may end by itself; then its process is killed."""

_Key = tuple[UUID, int, int]


class GivenBack(NamedTuple):
    """A lease whose process is gone."""

    key: _Key
    holder: str
    timed_out: bool


class Keeper:
    """The thread. It has a database connection of its own."""

    def __init__(self) -> None:
        self._process = Process()
        self._recovery = Recovery(self._process)
        self._given_back: queue.SimpleQueue[GivenBack | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._told: dict[tuple[_Key, int], float] = {}

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for it."""
        self._stopping.set()
        self._given_back.put(None)
        if self._thread is not None:
            self._thread.join(timeout=10)

    def give_back(self, args: Sequence[Any], pid: int | None, *, timed_out: bool) -> None:
        """The process `pid` cannot go on with the node execution that `args` name. Does not wait."""
        if pid is not None:
            run_id, node, idx = args
            self._given_back.put(GivenBack((UUID(run_id), node, idx), holder(pid), timed_out))

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._wait_for_tick()
                self._renew()
                self._recovery.run_pass()
            except AgentFlowError as error:
                logger.warning("keeper_postponed", extra={"error": error.message})
                self._recovery.was_interrupted()
                self._stopping.wait(TICK)
            except Exception:
                logger.exception("keeper_failed")
                self._process.hot.close()
                self._recovery.was_interrupted()
                self._stopping.wait(TICK)
        self._process.hot.close()

    def _wait_for_tick(self) -> None:
        """Until the next tick, take what is given back."""
        end = monotonic() + TICK
        while (remaining := end - monotonic()) > 0:
            try:
                item = self._given_back.get(timeout=remaining)
            except queue.Empty:
                return
            if item is None:
                return
            self._recovery.take_back(*item)

    def _renew(self) -> None:
        held = _executing()
        if not held:
            self._told.clear()
            return
        renewed = self._process.hot.renew([(holder(pid), *key) for key, pid in held.items()], settings().lease_seconds)
        for run_id, node, idx, stop in renewed:
            if stop:
                self._tell((run_id, node, idx), held[run_id, node, idx])
        self._told = {told: at for told, at in self._told.items() if held.get(told[0]) == told[1]}

    def _tell(self, key: _Key, pid: int) -> None:
        """The child `pid` shall stop what it does, and is killed if it has not for a while."""
        if pid == os.getpid():
            return  # a thread or green pool: the block hears of it where it yields
        first = self._told.setdefault((key, pid), monotonic())
        kill = monotonic() - first > KILL_AFTER
        try:
            os.kill(pid, signal.SIGKILL if kill else signal.SIGUSR2)
        except ProcessLookupError:
            return
        if kill:
            logger.warning("child_killed", extra={"run": str(key[0]), "node": key[1], "index": key[2], "child": pid})


def _executing() -> dict[_Key, int]:
    """The node executions that children are at, and the children's process ids."""
    requests: list[Any] = []
    for _ in range(3):
        try:
            requests = list(celery_state.active_requests)
            break
        except RuntimeError:  # the main thread changed the set meanwhile
            continue
    held = {}
    for request in requests:
        if request.type == EXECUTE and request.worker_pid is not None:
            run_id, node, idx = request.args
            held[UUID(run_id), node, idx] = request.worker_pid
    return held


@cache
def keeper() -> Keeper:
    """The keeper of this worker."""
    return Keeper()
