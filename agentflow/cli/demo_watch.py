"""Runs the demo's work in a thread, while the main thread watches for reasons to abort.

The reasons are Ctrl-C, a server or worker that died, and a timeout much longer than the demo takes.
"""

import threading
from collections.abc import Callable
from typing import Final, TypeVar

from celery import Celery

from agentflow.clock import monotonic
from agentflow.embedded.halt import Halt
from agentflow.embedded.launch import Launch
from agentflow.errors import Unavailable

LONGEST: Final = 180.0
"""The timeout of one piece of work in seconds, generous for slow machines."""

_WORKERS_SECONDS: Final = 60.0

_Result = TypeVar("_Result")


class StopRequested(Exception):
    """A stop was requested, by Ctrl-C or a signal."""


def watched(launch: Launch, halt: Halt, work: Callable[[], _Result]) -> _Result:
    """Do `work` in a thread; return its result, or raise its error.

    Raises:
        StopRequested: a stop was requested meanwhile.
        Unavailable: a process ended by itself, or the work takes too long.
    """
    results: list[_Result] = []
    errors: list[BaseException] = []

    def do() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    # A daemon, so that hanging work does not keep the process alive.
    thread = threading.Thread(target=do, name="demo", daemon=True)
    thread.start()
    deadline = monotonic() + LONGEST
    while thread.is_alive():
        if halt.requested:
            raise StopRequested
        if failure := launch.failure():
            raise Unavailable(failure)
        if monotonic() > deadline:
            raise Unavailable(f"it did not end within {LONGEST:.0f} s")
        thread.join(0.1)
    if errors:
        raise errors[0]
    return results[0]


def await_workers(broker_url: str, count: int) -> list[str]:
    """Wait until `count` workers answer a ping. Returns their names.

    Raises:
        Unavailable: they do not within a minute.
    """
    app = Celery("demo", broker=broker_url, set_as_current=False)
    deadline = monotonic() + _WORKERS_SECONDS
    names: set[str] = set()
    while monotonic() < deadline:
        for answer in app.control.ping(timeout=0.5, limit=count) or []:
            names |= answer.keys()
        if len(names) >= count:
            return sorted(names)
    raise Unavailable(f"{len(names)} of {count} workers answer after {_WORKERS_SECONDS:.0f} s")
