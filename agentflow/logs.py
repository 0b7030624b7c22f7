"""How does a log line read? An event's name, which never changes, and its fields: `lease_lost run=… node=3 index=1`.

Events are logged with their fields as `extra`; this formatter puts them behind the name. It must not be given secrets.
"""

import logging
from typing import Any, Final

from agentflow import forking
from agentflow.clock import monotonic

FORMAT: Final = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"

TRACE: Final = "trace"
"""The field with a traceback, as text: it stands in lines of its own below the others."""

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "data", TRACE}
"""What every record has (and `data`, which Celery adds to its own), and what is not shown in the line."""


class FieldsFormatter(logging.Formatter):
    """Puts a record's fields behind its message."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        fields = [f"{name}={_shown(value)}" for name, value in vars(record).items() if name not in _STANDARD]
        return " ".join([super().formatMessage(record), *fields])

    def format(self, record: logging.LogRecord) -> str:
        trace = getattr(record, TRACE, None)
        return super().format(record) if trace is None else f"{super().format(record)}\n{trace}"


def _shown(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(char.isspace() for char in text) else text


SPEAK_OF_REQUESTS: Final = ("httpx", "httpcore", "httpx2", "httpcore2", "openai", "anthropic", "urllib3")
"""Libraries that log each request with its address, and at DEBUG with its headers: keys are in both."""


def keep_addresses_out() -> None:
    """Let the libraries that send requests say warnings only, whatever level the process logs at."""
    for name in SPEAK_OF_REQUESTS:
        logging.getLogger(name).setLevel(logging.WARNING)


OUTAGE_EVERY: Final = 30.0
"""Seconds between two lines of one event of an outage, in one process."""


class _Outages:
    """When each event was last said, and how often it has been left out since."""

    def __init__(self) -> None:
        self._lock = forking.lock()
        self._said: dict[str, tuple[float, int]] = {}

    def left_out(self, event: str) -> int | None:
        """How often `event` was left out before this time, if it may be said now; else None."""
        with self._lock:
            said_at, left_out = self._said.get(event, (-OUTAGE_EVERY, 0))
            if monotonic() - said_at < OUTAGE_EVERY:
                self._said[event] = said_at, left_out + 1
                return None
            self._said[event] = monotonic(), 0
            return left_out


_outages = _Outages()


def log_outage(logger: logging.Logger, event: str, error: BaseException, **fields: Any) -> None:
    """Say that something could not be done because PostgreSQL or the broker is away: expected, and mended by itself.

    One line without a traceback, and no more than one each `OUTAGE_EVERY` seconds, because every request and every task
    would say it; `left_out` tells how many others there were since the last line.
    """
    if (left_out := _outages.left_out(event)) is not None:
        logger.warning(event, extra={"error": str(error) or repr(error), **fields, "left_out": left_out})


_own_handlers: list[logging.Handler] | None = None


def keep_handlers() -> None:
    """Remember to whom this process's log goes: a block may add handlers of its own, which break whoever logs."""
    global _own_handlers
    _own_handlers = list(logging.getLogger().handlers)


def put_handlers_back() -> None:
    """See to it that the log goes to whom it went when `keep_handlers` was called, if it was."""
    handlers = logging.getLogger().handlers
    if _own_handlers is not None and handlers != _own_handlers:
        handlers[:] = _own_handlers
