"""Starts, watches and stops a child process.

Each child runs in its own session: Ctrl-C in the terminal reaches only us, and we stop the children in order. This
module must not know what the children are.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from agentflow.embedded.identity import Identity, identify
from agentflow.errors import Unavailable

Steps = Sequence[tuple[signal.Signals, float]]
"""How to stop a child: signals, and the seconds to wait after each."""

_LEASH = Path(__file__).with_name("leash.py")
_POLL = 0.01
_LOG_LIMIT = 5 * 1024 * 1024
"""Bytes; a longer log is rotated when its server starts (one old file is kept)."""


class Child:
    """A running process that was started here, and how to stop it."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], steps: Steps) -> None:
        self.name = name
        self._process = process
        self._steps = tuple(steps)
        self._asked = False
        self.identity: Identity | None = identify(process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> IO[bytes] | None:
        """Its output, if `start` made a pipe."""
        return self._process.stdout

    def ended(self) -> int | None:
        """Its exit code (negative: the signal that killed it), or None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float) -> int:
        """Wait until it exits, and return its exit code. After `seconds` it is stopped."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return self.stop()

    def signal_stop(self) -> None:
        """Send the first stop signal, and do not wait."""
        if self.ended() is None:
            self._process.send_signal(self._steps[0][0])
            self._asked = True

    def stop(self, *, hurry: Callable[[], bool] = lambda: False) -> int:
        """Send the stop signals in turn until it exits, then kill what is left of its session.

        Args:
            hurry: called while waiting; once true, the present step ends early.

        Returns:
            its exit code.
        """
        for number, seconds in (*self._steps, (signal.SIGKILL, 10.0)):
            if self.ended() is not None:
                break
            # Never send the same signal twice: to some programs a second SIGTERM means something else.
            if not (self._asked and number == self._steps[0][0]):
                self._process.send_signal(number)
            deadline = time.monotonic() + seconds
            while self.ended() is None and time.monotonic() < deadline and not hurry():
                time.sleep(_POLL)
        code = self._process.wait()
        # A killed child may leave children of its own.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        return code


def start(
    name: str,
    command: Sequence[str | Path],
    steps: Steps,
    *,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    user: int | None = None,
) -> Child:
    """Start a process that ends when the calling thread does (on Linux; see leash.py).

    Args:
        name: its name in messages.
        command: program and arguments. No secrets: everybody can read them.
        steps: how to stop it; it also gets the first signal when we die.
        log: the file for its output; None: a pipe, `Child.output`.
        environment: its whole environment; None: ours.
        folder: its working directory; None: ours.
        user: the uid (and gid) to run as, if we are root.

    Raises:
        Unavailable: the program cannot be started.
    """
    launcher: list[str | Path] = [sys.executable, "-I", "-S", _LEASH]
    launcher += ["--parent", str(os.getpid()), "--signal", str(int(steps[0][0]))]
    if user is not None:
        launcher += ["--uid", str(user), "--gid", str(user)]
    sink = open_log(log) if log else subprocess.PIPE
    try:
        process = subprocess.Popen(  # noqa: S603
            [*launcher, "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=dict(environment) if environment is not None else None,
            cwd=folder,
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(f"{name} cannot be started: {error}") from error
    finally:
        if isinstance(sink, int) and sink >= 0:
            os.close(sink)
    return Child(name, process, steps)


def open_log(path: Path) -> int:
    """Open a log for appending (0600), after rotating a long one. Returns a file descriptor."""
    if path.exists() and path.stat().st_size > _LOG_LIMIT:
        path.replace(path.with_name(f"{path.name}.old"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def await_ready(child: Child, is_ready: Callable[[], bool], seconds: float, log: Path) -> None:
    """Wait until the child is ready.

    Raises:
        Unavailable: it exited, or was not ready in time; the message quotes the end of its log.
    """
    deadline = time.monotonic() + seconds
    while not is_ready():
        code = child.ended()
        if code is not None:
            raise Unavailable(f"{child.name} ended at its start (exit code {code}); {log} ends:\n{tail(log)}")
        if time.monotonic() > deadline:
            raise Unavailable(f"{child.name} was not ready after {seconds:.0f} s; {log} ends:\n{tail(log)}")
        time.sleep(_POLL)


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    if not log.is_file():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
