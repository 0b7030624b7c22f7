"""Runs the worker processes of one side, as an operator would: `celery -A … worker`.

They run in a folder without a celeryconfig.py, so AgentFlow uses the shipped one. Both sides log only errors. The
workers end with this process.
"""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery import Celery

from agentflow.embedded.child import Child, start, tail
from benchmarks.ground import Ground

_CELERY = Path(sys.executable).with_name("celery")
_START_SECONDS = 60.0
_STEPS = ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0))
_OPTIONS = ("-P", "prefork", "-l", "ERROR", "--without-gossip", "--without-mingle")


@dataclass(frozen=True, slots=True)
class Layout:
    """The number of worker processes, and of child processes in each."""

    workers: int
    children: int

    def __str__(self) -> str:
        return f"{self.workers} × -c {self.children}"


@contextmanager
def fleet(ground: Ground, app: str, broker_url: str, layout: Layout) -> Iterator[list[int]]:
    """Run workers of the Celery app `app` (as `-A` takes it). Yields their pids once they are ready.

    Raises:
        RuntimeError: one does not start; the message quotes the end of its log.
    """
    children: list[tuple[Child, Path]] = []
    try:
        for number in range(layout.workers):
            log = ground.folder / f"{app}-{number}.log"
            command: list[str | Path] = [_CELERY, "-A", app, "worker", "-n", f"{app}-{number}@bench"]
            command += ["-c", str(layout.children), *_OPTIONS]
            name = f"worker {number} of {app}"
            environment, folder = ground.environment, ground.folder
            children.append((start(name, command, _STEPS, log=log, environment=environment, folder=folder), log))
        _await_answers(broker_url, app, children)
        yield [child.pid for child, _ in children]
    finally:
        for child, _ in children:
            child.signal_stop()
        for child, _ in children:
            child.stop()


def _await_answers(broker_url: str, app: str, children: list[tuple[Child, Path]]) -> None:
    """Wait until every worker answers a ping."""
    asking = Celery("bench", broker=broker_url, set_as_current=False)
    names = [f"{app}-{number}@bench" for number in range(len(children))]
    deadline = time.monotonic() + _START_SECONDS
    try:
        while True:
            answers: list[Any] = asking.control.ping(destination=names, timeout=0.5, limit=len(names)) or []
            if len(answers) == len(names):
                return
            for child, log in children:
                if child.ended() is not None:
                    raise RuntimeError(f"{child.name} ended at its start; its log ends:\n{tail(log)}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the workers of {app} did not answer in {_START_SECONDS:.0f} s")
    finally:
        asking.close()
