"""How does the demo wait without hanging? Work is done beside, and the main thread looks whether it still makes sense.

It ends with Ctrl-C, with a server or worker that died, and with a time that is much longer than the demo takes.
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
"""Seconds that one piece of work may take, even on a slow machine."""

_WORKERS_SECONDS: Final = 60.0

_Result = TypeVar("_Result")


class Asked(Exception):
    """Somebody pressed Ctrl-C, or sent the signal to end."""


def watched(launch: Launch, halt: Halt, work: Callable[[], _Result]) -> _Result:
    """What `work` returns or raises.

    Raises:
        Asked: it was asked to stop meanwhile.
        Unavailable: a process ended by itself, or it takes too long.
    """
    results: list[_Result] = []
    errors: list[BaseException] = []

    def do() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    # A daemon: one that hangs must not keep the process from ending.
    thread = threading.Thread(target=do, name="demo", daemon=True)
    thread.start()
    deadline = monotonic() + LONGEST
    while thread.is_alive():
        if halt.requested:
            raise Asked
        if failure := launch.failure():
            raise Unavailable(failure)
        if monotonic() > deadline:
            raise Unavailable(f"it did not end within {LONGEST:.0f} s")
        thread.join(0.1)
    if errors:
        raise errors[0]
    return results[0]


def await_workers(broker_url: str, count: int) -> list[str]:
    """The names of the workers, once so many answer.

    Raises:
        Unavailable: they do not, within a minute.
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
