"""Formats log lines as a stable event name followed by fields: `lease_lost run=… node=3 index=1`.

Callers pass the fields as `extra`. Fields must not contain secrets.
"""

import logging
from collections.abc import Callable
from typing import Any, Final

from agentflow import forking
from agentflow.clock import monotonic

FORMAT: Final = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"

TRACE: Final = "trace"
"""The field with a traceback as text. It is printed on separate lines, below the others."""

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "data", TRACE}
"""Fields that the line does not show: those of every record, and `data`, which Celery adds to its own."""


class FieldsFormatter(logging.Formatter):
    """Appends a record's fields to its message."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        fields = [f"{name}={_shown(value)}" for name, value in vars(record).items() if name not in _STANDARD]
        return " ".join([super().formatMessage(record), *fields])

    def format(self, record: logging.LogRecord) -> str:
        trace = getattr(record, TRACE, None)
        line = super().format(record) if trace is None else f"{super().format(record)}\n{trace}"
        return line if _redact is None else _redact(line)


_redact: Callable[[str], str] | None = None


def redact_lines(redact: Callable[[str], str] | None) -> None:
    """Let `redact` take the secrets out of each line of this process from now on; None: of none.

    A block's own logger knows the secrets that it got; the libraries that it calls, and what it prints, do not.
    """
    global _redact
    _redact = redact


def _shown(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(char.isspace() for char in text) else text


HTTP_LIBRARIES: Final = ("httpx", "httpcore", "httpx2", "httpcore2", "openai", "anthropic", "urllib3")
"""Libraries that log the URL of each request, and at DEBUG its headers. Both may contain API keys."""


def silence_http_libraries() -> None:
    """Let the HTTP libraries log warnings only, whatever level the process logs at."""
    for name in HTTP_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)


OUTAGE_EVERY: Final = 30.0
"""Seconds between two log lines of the same outage event, in one process."""


class _Outages:
    """When each event was last logged, and how often it was suppressed since."""

    def __init__(self) -> None:
        self._lock = forking.lock()
        self._logged: dict[str, tuple[float, int]] = {}

    def left_out(self, event: str) -> int | None:
        """How often `event` was suppressed since its last line; None if it must be suppressed now, too."""
        with self._lock:
            logged_at, left_out = self._logged.get(event, (-OUTAGE_EVERY, 0))
            if monotonic() - logged_at < OUTAGE_EVERY:
                self._logged[event] = logged_at, left_out + 1
                return None
            self._logged[event] = monotonic(), 0
            return left_out


_outages = _Outages()


def log_outage(logger: logging.Logger, event: str, error: BaseException, **fields: Any) -> None:
    """Log that an operation failed because PostgreSQL or the broker is away, which is expected and recovers by itself.

    One line without a traceback, at most once per `OUTAGE_EVERY` seconds, because every request and every task would
    log it. The field `left_out` counts the lines that were suppressed since the last one.
    """
    if (left_out := _outages.left_out(event)) is not None:
        logger.warning(event, extra={"error": str(error) or repr(error), **fields, "left_out": left_out})


_own_handlers: list[logging.Handler] | None = None


def keep_handlers() -> None:
    """Remember the root logger's handlers. A block may add handlers of its own, which can break logging."""
    global _own_handlers
    _own_handlers = list(logging.getLogger().handlers)


def put_handlers_back() -> None:
    """Restore the handlers that `keep_handlers` remembered, if it was called."""
    handlers = logging.getLogger().handlers
    if _own_handlers is not None and handlers != _own_handlers:
        handlers[:] = _own_handlers
