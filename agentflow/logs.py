"""How does a log line read? An event's name, which never changes, and its fields: `lease_lost run=… node=3 index=1`.

Events are logged with their fields as `extra`; this formatter puts them behind the name. It must not be given secrets.
"""

import logging
from typing import Final

FORMAT: Final = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "data"}
"""What every record has (and `data`, which Celery adds to its own)."""


class FieldsFormatter(logging.Formatter):
    """Puts a record's fields behind its message."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        fields = [f"{name}={_shown(value)}" for name, value in vars(record).items() if name not in _STANDARD]
        return " ".join([super().formatMessage(record), *fields])


def _shown(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(char.isspace() for char in text) else text
