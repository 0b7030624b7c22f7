"""Is the process with this number still the one that we started?

The system gives numbers out again, so a number alone is never enough to end a process by: its time of birth goes with
it. Nothing here starts a process.
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
    """One process, among all that have had or will have its number.

    Attributes:
        pid: its number.
        born: when it was born, in the system's own words; only equality means anything.
    """

    pid: int
    born: str


def identify(pid: int) -> Identity | None:
    """The process that has this number now; None where there is none, or only a dead one nobody has fetched yet."""
    born = _born_linux(pid) if _PROC.exists() else _born_by_ps(pid)
    return Identity(pid, born) if born else None


def is_alive(identity: Identity) -> bool:
    """Does that very process still run?"""
    return identify(identity.pid) == identity


def end(identity: Identity, steps: Iterable[tuple[signal.Signals, float]]) -> bool:
    """Send each signal in turn until the process has ended; each step waits so many seconds.

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
    """The program and arguments of a process, joined by blanks; empty if there is none."""
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
    # The name, in parentheses, may hold anything; the fields behind it are plain (proc(5)).
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
