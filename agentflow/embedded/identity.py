"""Identifies a process by its pid and start time.

The system reuses pids, so a pid alone is not enough to signal a process safely. Nothing here starts a process.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc/self/stat")
_POLL = 0.02


@dataclass(frozen=True, slots=True)
class Identity:
    """One process, distinct from all others that had or will have its pid.

    Attributes:
        pid: the process id.
        born: its start time, in the system's format. Only equality is meaningful.
    """

    pid: int
    born: str


def identify(pid: int) -> Identity | None:
    """The process that has this pid now; None if there is none, or only a zombie."""
    born = _born_linux(pid) if _PROC.exists() else _born_by_ps(pid)
    return Identity(pid, born) if born else None


def is_alive(identity: Identity) -> bool:
    """Whether exactly that process still runs."""
    return identify(identity.pid) == identity


def end(identity: Identity, steps: Iterable[tuple[signal.Signals, float]]) -> bool:
    """Send each signal in turn until the process has ended, and wait the given seconds after each.

    Returns:
        whether it has ended.
    """
    for number, seconds in steps:
        if not is_alive(identity):
            return True
        try:
            os.kill(identity.pid, number)
        except ProcessLookupError:
            return True
        deadline = time.monotonic() + seconds
        while is_alive(identity) and time.monotonic() < deadline:
            time.sleep(_POLL)
    return not is_alive(identity)


def command_line(pid: int) -> str:
    """The program and arguments of a process, separated by spaces; empty if there is none."""
    if _PROC.exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return ""
    return _ps(pid, "args=")


def _born_linux(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in parentheses, may contain anything; the fields after it are simple (proc(5)).
    fields = stat.rpartition(")")[2].split()
    state, start_ticks = fields[0], fields[19]
    if state in "ZX":
        return None
    return f"{_boot()} {start_ticks}"


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "this boot"


def _born_by_ps(pid: int) -> str | None:
    state, _, start = _ps(pid, "stat=,lstart=").partition(" ")
    return start.strip() if start and not state.startswith("Z") else None


def _ps(pid: int, columns: str) -> str:
    command = ["/bin/ps", "-ww", "-o", columns, "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
