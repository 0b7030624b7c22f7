"""The lines of a process, kept on the disk: a file that is set aside when it grows long, of which a few are kept."""

import logging
import os
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Any, Final

BYTES: Final = 10 * 1024 * 1024
"""Length at which a file is set aside."""

KEPT: Final = 3
"""Files of one process that were set aside and are kept: `NAME.log.1` is the newest."""


class ProcessLog:
    """The log of one process. Who cannot write it goes on without: a full disk must not stop what runs."""

    def __init__(self, path: Path) -> None:
        self._handler = _Private(path, maxBytes=BYTES, backupCount=KEPT, encoding="utf-8", errors="replace")
        self._handler.setFormatter(logging.Formatter("%(message)s"))

    def write(self, line: bytes) -> None:
        """Write one line, with or without its end."""
        text = line.decode(errors="replace").removesuffix("\n")
        self._handler.emit(logging.LogRecord("process", logging.INFO, "", 0, text, None, None))

    def close(self) -> None:
        """Close the file."""
        self._handler.close()


class _Private(RotatingFileHandler):
    """Writes files that only their owner may read (0600)."""

    def _open(self) -> Any:
        return open(self.baseFilename, self.mode, encoding=self.encoding, errors=self.errors, opener=_private_file)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base class's name
        """Leave the line out."""


def _private_file(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def set_aside(path: Path, most: int = BYTES) -> None:
    """Set the log of a server aside that writes it itself, and let it go on from its start (it appends)."""
    try:
        if path.stat().st_size <= most:
            return
        kept = path.with_name(f"{path.name}.1")
        with open(path, "rb") as source, open(kept, "wb", opener=_private_file) as target:
            _copy(source, target)
        os.truncate(path, 0)
    except OSError:  # no room, say: the log is no reason to stop
        return


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    while block := source.read(1024 * 1024):
        target.write(block)
