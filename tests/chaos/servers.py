"""One installation that can be hurt: its servers and processes, and who of them ended by himself."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import psutil
import redis
from fleet import LEASE_SECONDS, Fleet, until

from agentflow.embedded.stack import Stack
from agentflow.storage.migrate import upgrade

_ENDS: float = 60.0
"""Seconds in which a process that was told to end must have ended."""


class Installation:
    """PostgreSQL, Valkey, the API and worker processes. To be used in one thread: its processes end with it.

    Attributes:
        fleet: the API and the workers.
        ended_by_themselves: what ended although nobody killed it.
    """

    def __init__(self, folder: Path, workers: int, window: int) -> None:
        self._stack = Stack(folder / "data", durable=True)
        self._stack.start()
        upgrade(self._stack.database_url)
        logs = folder / "logs"
        logs.mkdir()
        self.fleet = Fleet(
            self._stack.database_url, self._stack.broker_url, logs, children=2,
            environment={"AGENTFLOW_READY_WINDOW": str(window)},
        )  # fmt: skip
        self.ended_by_themselves: list[str] = []
        self._workers = workers
        self.fleet.start_web()
        self.fleet.ensure_workers(workers)

    def stop(self) -> None:
        """Stop everything."""
        self.fleet.stop()
        self._stack.stop()

    def look(self) -> None:
        """Note what ended by itself, and start it again."""
        for name, process in list(self.fleet.workers.items()):
            if process.poll() is not None:
                self.ended_by_themselves.append(f"worker {name}: exit code {process.returncode}")
                del self.fleet.workers[name]
        if self.fleet.web_ended() is not None:
            self.ended_by_themselves.append(f"web: exit code {self.fleet.web_ended()}")
            self.fleet.start_web()
        self.fleet.ensure_workers(self._workers)

    # What can happen to it. Each of these leaves everything running again.

    def kill_child(self, rng: Random) -> None:
        """A block's process dies."""
        name = rng.choice(list(self.fleet.workers))
        children = psutil.Process(self.fleet.workers[name].pid).children()
        if children:
            with contextlib.suppress(psutil.NoSuchProcess):
                rng.choice(children).kill()

    def kill_worker(self, rng: Random) -> None:
        """A worker dies with its children, as when its host does."""
        self.fleet.kill(rng.choice(list(self.fleet.workers)))
        self.fleet.ensure_workers(self._workers)

    def freeze_worker(self, rng: Random) -> None:
        """A worker stands still for longer than its leases are good, and goes on as if nothing had been."""
        group = self.fleet.workers[rng.choice(list(self.fleet.workers))].pid
        os.killpg(group, signal.SIGSTOP)
        try:
            time.sleep(LEASE_SECONDS * rng.uniform(1.2, 2.5))
        finally:
            os.killpg(group, signal.SIGCONT)

    def terminate_workers(self, rng: Random) -> None:
        """All workers are told to finish what runs, and end."""
        self._end_workers(signal.SIGTERM)

    def quit_workers(self, rng: Random) -> None:
        """All workers are told to give back what does not end at once, and end."""
        self._end_workers(signal.SIGQUIT)

    def _end_workers(self, number: signal.Signals) -> None:
        ending = dict(self.fleet.workers)
        self.fleet.workers.clear()
        for process in ending.values():
            process.send_signal(number)
        for name, process in ending.items():
            try:
                code = process.wait(_ENDS)
            except subprocess.TimeoutExpired:
                self.ended_by_themselves.append(f"worker {name} did not end within {_ENDS:g} s of {number.name}")
                os.killpg(process.pid, signal.SIGKILL)
            else:
                if code:
                    self.ended_by_themselves.append(f"worker {name}: exit code {code} after {number.name}")
        self.fleet.ensure_workers(self._workers)

    def kill_web(self, rng: Random) -> None:
        """The API dies."""
        self.fleet.kill_web()
        time.sleep(rng.uniform(0, 1))
        self.fleet.start_web()

    def kill_broker(self, rng: Random) -> None:
        """The broker dies and comes back with nothing in it."""
        valkey = self._stack.valkey
        assert valkey is not None
        os.kill(valkey.child.pid, signal.SIGKILL)
        until(lambda: valkey.child.ended() is not None, "Valkey is dead")
        valkey.stop()
        shutil.rmtree(self._stack.data_dir / "valkey" / "appendonlydir", ignore_errors=True)
        time.sleep(rng.uniform(0, 3))
        valkey.start()

    def empty_broker(self, rng: Random) -> None:
        """The broker forgets everything."""
        with redis.Redis.from_url(self._stack.broker_url) as client:
            client.flushall()

    def stop_database(self, rng: Random) -> None:
        """PostgreSQL stops at once, in the middle of whatever it does, and recovers."""
        postgres = self._stack.postgres
        assert postgres is not None
        os.kill(postgres.child.pid, signal.SIGQUIT)
        until(lambda: postgres.child.ended() is not None, "PostgreSQL has stopped")
        postgres.stop()
        time.sleep(rng.uniform(0, 4))
        postgres.start()


Fault = Callable[[Installation, Random], None]

FAULTS: dict[str, tuple[Fault, int]] = {
    "a child is killed": (Installation.kill_child, 5),
    "a worker is killed": (Installation.kill_worker, 3),
    "a worker is frozen": (Installation.freeze_worker, 2),
    "all workers get SIGTERM": (Installation.terminate_workers, 1),
    "all workers get SIGQUIT": (Installation.quit_workers, 1),
    "the API is killed": (Installation.kill_web, 2),
    "the broker is killed and emptied": (Installation.kill_broker, 2),
    "the broker is emptied": (Installation.empty_broker, 2),
    "PostgreSQL is stopped at once": (Installation.stop_database, 2),
}
"""What happens, and how often beside the rest."""
