"""Writes the output of a process to a rotating log file."""

import logging
import os
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Any, Final

BYTES: Final = 10 * 1024 * 1024
"""Length at which a file is rotated."""

KEPT: Final = 3
"""Rotated files that are kept per process; `NAME.log.1` is the newest."""


class ProcessLog:
    """The log of one process. Write errors are ignored: a full disk must not stop the process."""

    def __init__(self, path: Path) -> None:
        self._handler = _Private(path, maxBytes=BYTES, backupCount=KEPT, encoding="utf-8", errors="replace")
        self._handler.setFormatter(logging.Formatter("%(message)s"))

    def write(self, line: bytes) -> None:
        """Write one line, with or without its line break."""
        text = line.decode(errors="replace").removesuffix("\n")
        self._handler.emit(logging.LogRecord("process", logging.INFO, "", 0, text, None, None))

    def close(self) -> None:
        """Close the file."""
        self._handler.close()


class _Private(RotatingFileHandler):
    """Writes files that only their owner can read (0600)."""

    def _open(self) -> Any:
        return open(self.baseFilename, self.mode, encoding=self.encoding, errors=self.errors, opener=_private_file)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base class's name
        """Drop the line."""


def _private_file(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def rotate(path: Path, most: int = BYTES) -> None:
    """Copy the log of a server that writes it itself (in append mode), then truncate it."""
    try:
        if path.stat().st_size <= most:
            return
        kept = path.with_name(f"{path.name}.1")
        with open(path, "rb") as source, open(kept, "wb", opener=_private_file) as target:
            _copy(source, target)
        os.truncate(path, 0)
    except OSError:  # such as a full disk: no reason to stop
        return


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    while block := source.read(1024 * 1024):
        target.write(block)
