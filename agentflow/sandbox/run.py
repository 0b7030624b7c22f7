"""Runs a command in a sandbox and reports to the worker how it ended.

The launcher is a fresh interpreter. It shares nothing with the worker but two pipes for the outputs and two for the
reports of the sandbox and of the code. Whatever ends the call (time limit, too much output, an interruption) ends the
sandbox.
"""

import json
import os
import pwd
import random
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Literal

import agentflow
from agentflow.clock import monotonic
from agentflow.errors import BadInput, Transient
from agentflow.sandbox.checks import WRITABLE, namespaces

_MEBIBYTE: Final = 1024 * 1024

_USERS: Final = range(60_600, 61_100)
"""The numbers from which the sandbox's user is chosen. Systems assign none of them."""

_GRACE_SECONDS: Final = 10.0
"""Time to build the sandbox; also the time after the limit before the worker kills what should have ended."""

_POLL_SECONDS: Final = 0.1

_START: Final = "import sys; sys.path.append(sys.argv[1]); from agentflow.sandbox.launcher import main; main()"

_ENVIRONMENT: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": WRITABLE, "LANG": "C.UTF-8"}


class Refused(BadInput):
    """A sandbox that holds is not available here."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to run in a sandbox.

    Attributes:
        command: the program's path and its arguments.
        files: name → text; in the sandbox in the folder /code.
        folders: paths of this machine that the command may read, besides the system's programs and libraries.
    """

    command: Sequence[str]
    files: Mapping[str, str] = field(default_factory=dict)
    folders: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a command may use.

    Attributes:
        seconds: wall-clock time, and processor time of each process.
        memory_bytes: memory of all processes together.
        address_bytes: address space of one process; None: only `memory_bytes` limits it, for programs that reserve
            more than they use.
        processes: processes and threads.
        files: open files of one process.
        disk_bytes: size of all files in the writable folder, and of each.
        disk_files: number of files in the writable folder.
        output_bytes: size of each output and of the result.
    """

    seconds: float
    memory_bytes: int = 512 * _MEBIBYTE
    address_bytes: int | None = 512 * _MEBIBYTE
    processes: int = 64
    files: int = 256
    disk_bytes: int = 64 * _MEBIBYTE
    disk_files: int = 4096
    output_bytes: int = _MEBIBYTE

    def of_processes(self) -> dict[str, int]:
        """The limits that the kernel enforces per process, by their names in `resource`."""
        return {
            "RLIMIT_CPU": int(self.seconds) + 1,
            "RLIMIT_AS": self.address_bytes or 1 << 46,
            "RLIMIT_DATA": self.memory_bytes,
            "RLIMIT_FSIZE": self.disk_bytes,
            "RLIMIT_NPROC": self.processes,
            "RLIMIT_NOFILE": self.files,
            "RLIMIT_CORE": 0,
            "RLIMIT_MEMLOCK": 0,
            "RLIMIT_MSGQUEUE": 0,
        }


Over = Literal["time", "memory", "output"]


@dataclass(slots=True)
class Ending:
    """How a command ended.

    Attributes:
        exit_status: 0 for success, negative for a signal; None: it was ended by a limit, see `over`.
        over: the limit that was exceeded, if any.
        stdout: the standard output.
        stderr: the standard error.
        result: what the command wrote to descriptor 3.
    """

    exit_status: int | None = None
    over: Over | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    result: bytes = b""


@dataclass(slots=True)
class _Streams:
    """The data received so far, by stream."""

    limit: int
    parts: dict[str, bytearray] = field(default_factory=dict)

    def take(self, name: str, data: bytes) -> bool:
        """Keeps `data`. Returns False when the limit is reached."""
        kept = self.parts.setdefault(name, bytearray())
        kept += data[: self.limit - len(kept)]
        return len(kept) < self.limit

    def of(self, name: str) -> bytes:
        return bytes(self.parts.get(name, b""))


def run_in_sandbox(job: Job, limits: Limits, stop_if_cancelled: Callable[[], None]) -> Ending:
    """Runs a command in a fresh sandbox and waits for its end.

    Args:
        job: the command and what it may read.
        limits: what the command may use.
        stop_if_cancelled: called several times a second; an exception from it ends the sandbox.

    Raises:
        Refused: the command was not run, because the sandbox would not hold here; the message says why.
        Transient: the sandbox ended unexpectedly before the command did.
    """
    streams = _Streams(limits.output_bytes)
    with _launched(job, limits) as pipes:
        full = _pump(pipes, streams, monotonic() + limits.seconds + _GRACE_SECONDS, stop_if_cancelled)
    facts = _facts(streams.of("status"))
    if "refused" in facts:
        raise Refused(f"code is not run here, because the sandbox would not hold: {facts['refused']}")
    over: Over | None = full or facts.get("over")
    if not over and "ended" not in facts:
        raise Transient("the sandbox ended before the code did" if "ready" in facts else "the sandbox did not start")
    return Ending(
        None if over else facts["ended"], over, streams.of("stdout"), streams.of("stderr"), streams.of("result")
    )


def _facts(status: bytes) -> dict[str, Any]:
    """The sandbox's reports, merged. The code cannot write to this pipe."""
    facts: dict[str, Any] = {}
    for line in status.splitlines():
        with suppress(ValueError):
            facts |= json.loads(line)
    return facts


@contextmanager
def _launched(job: Job, limits: Limits) -> Iterator[dict[str, IO[bytes]]]:
    """The readable pipes of a running launcher. All of it ends with the `with` block."""
    with tempfile.TemporaryFile() as request:
        ends = {name: os.pipe() for name in ("status", "result")}
        given = {name: write for name, (_, write) in ends.items()}
        reading = {name: _reader(read) for name, (read, _) in ends.items()}
        try:
            request.write(json.dumps(_request(job, limits) | given).encode())
            request.seek(0)
            launcher = subprocess.Popen(  # noqa: S603 our own interpreter and program
                [sys.executable, "-I", "-S", "-c", _START, str(Path(agentflow.__file__).parents[1])],
                stdin=request,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={},
                cwd="/",
                pass_fds=tuple(given.values()),
                start_new_session=True,
                bufsize=0,
            )
        except BaseException:
            for file in reading.values():
                file.close()
            raise
        finally:
            for number in given.values():
                os.close(number)
    assert launcher.stdout is not None
    assert launcher.stderr is not None
    try:
        yield reading | {"stdout": launcher.stdout, "stderr": launcher.stderr}
    finally:
        _end(launcher)
        for file in (*reading.values(), launcher.stdout, launcher.stderr):
            file.close()


def _reader(descriptor: int) -> IO[bytes]:
    return open(descriptor, "rb", buffering=0)


def _end(launcher: subprocess.Popen[bytes]) -> None:
    """Kills the launcher. The sandbox's first process dies with it, and all others with that one."""
    with suppress(ProcessLookupError):
        os.killpg(launcher.pid, signal.SIGKILL)
    launcher.wait()


def _request(job: Job, limits: Limits) -> dict[str, Any]:
    return {
        "command": list(job.command),
        "environment": _ENVIRONMENT,
        "files": dict(job.files),
        "folders": list(job.folders),
        "limits": limits.of_processes(),
        "seconds": limits.seconds,
        "alarm_seconds": limits.seconds + 2 * _GRACE_SECONDS,
        "memory_bytes": limits.memory_bytes,
        "disk_bytes": limits.disk_bytes,
        "disk_files": limits.disk_files,
        "worker": os.getpid(),
        "outside": namespaces(),
        "users": [os.geteuid(), _free_user()],
    }


def _free_user() -> int:
    """A number that no account has, random so that sandboxes do not share limits that are counted per user."""
    taken = {account.pw_uid for account in pwd.getpwall()} | {os.geteuid()}
    return random.choice([number for number in _USERS if number not in taken])  # noqa: S311 no secret


def _pump(
    pipes: Mapping[str, IO[bytes]], streams: _Streams, deadline: float, stop_if_cancelled: Callable[[], None]
) -> Over | None:
    """Reads until all pipes end, or a limit is reached; returns that limit."""
    with selectors.DefaultSelector() as selector:
        for name, pipe in pipes.items():
            selector.register(pipe, selectors.EVENT_READ, name)
        while selector.get_map():
            stop_if_cancelled()
            if monotonic() >= deadline:
                return "time"
            for key, _ in selector.select(_POLL_SECONDS):
                data = os.read(key.fd, 65_536)
                if not data:
                    selector.unregister(key.fileobj)
                elif not streams.take(key.data, data):
                    return "output"
    return None
