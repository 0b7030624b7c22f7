"""Notices at once that a child has ended, where Celery's prefork pool takes up to five seconds.

The end of a child closes a pipe, and Celery then looks which child has ended. The pipe is closed a moment before the
child can be waited for, so the look often finds none, and the next one comes five seconds later.
"""

from typing import Any, Final

from celery.concurrency import prefork
from celery.concurrency.asynpool import AsynPool

_LOOKS_AFTER: Final = (0.02, 0.1, 0.5)
"""Seconds after the pipe was closed. A large process takes a while to go, and one that leaves a core dump longer."""


class _Pool(AsynPool):  # type: ignore[misc]
    def _event_process_exit(self, hub: Any, proc: Any) -> None:
        super()._event_process_exit(hub, proc)
        for seconds in _LOOKS_AFTER:
            hub.call_later(seconds, self.maintain_pool)


class TaskPool(prefork.TaskPool):  # type: ignore[misc]
    """The prefork pool."""

    Pool = _Pool
