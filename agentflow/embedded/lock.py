"""Locks a data directory, and tells whether its last owner crashed.

The operating system holds the lock on one file as long as the owner lives, however it ends. The file's text names the
owner, and an orderly stop empties it. This module must not decide what to do about a crash.
"""

import fcntl
import json
import os
import time
from enum import StrEnum
from pathlib import Path

from agentflow.clock import now
from agentflow.errors import AlreadyRunning

LOCK_FILE = "lock"


class Occupancy(StrEnum):
    """Who uses a data directory."""

    FREE = "free"  # nobody; the last owner stopped in order
    RUNNING = "running"  # a living owner
    CRASHED = "crashed"  # an owner that died without stopping


class Lock:
    """The right to run a stack from one data directory.

    Attributes:
        crashed: whether the previous owner died without stopping; set once acquired.
    """

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / LOCK_FILE
        self._file: int | None = None
        self.crashed = False

    @property
    def held(self) -> bool:
        return self._file is not None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            AlreadyRunning: a living process holds it; the message says which.
        """
        file = _open(self._path)
        if not _lock_soon(file):
            owner = _owner(file)
            os.close(file)
            raise AlreadyRunning(
                f"a stack already runs from {self._path.parent.absolute()} (process {owner.get('pid', '?')}, since "
                f"{owner.get('since', '?')}): use that one, stop it, or choose another --data-dir"
            )
        self.crashed = bool(_owner(file))
        self._file = file
        _replace(file, json.dumps({"pid": os.getpid(), "since": now().isoformat(timespec="seconds")}))

    def release(self) -> None:
        """Release the lock after an orderly stop. Idempotent."""
        if self._file is not None:
            _replace(self._file, "")
            os.close(self._file)
            self._file = None


def occupancy(data_dir: Path) -> Occupancy:
    """Who uses the data directory now."""
    path = data_dir / LOCK_FILE
    if not path.exists():
        return Occupancy.FREE
    file = _open(path)
    try:
        if not _try_lock(file):
            return Occupancy.RUNNING
        return Occupancy.CRASHED if _owner(file) else Occupancy.FREE
    finally:
        os.close(file)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_soon(file: int) -> bool:
    """Take the lock, with retries: `occupancy` takes it for a moment."""
    for _ in range(10):
        if _try_lock(file):
            return True
        time.sleep(0.03)
    return False


def _owner(file: int) -> dict[str, object]:
    """What the owner wrote; empty if nothing. Truncated text still means that there was an owner."""
    text = os.pread(file, 4096, 0)
    if not text:
        return {}
    try:
        content = json.loads(text)
    except ValueError:
        return {"pid": "?"}
    return content if isinstance(content, dict) else {"pid": "?"}


def _replace(file: int, text: str) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, text.encode(), 0)
    os.fsync(file)
