"""Runs and supervises the Procfile's processes: logs their output, restarts them, and stops them in order.

Honcho parses the Procfile and prints the lines. Its manager is not used: it stops everything at once and kills after
five seconds. But workers must have time to finish what they run, and must stop only after the web server.
"""

import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, TextIO

from honcho.colour import get_colours
from honcho.environ import parse_procfile
from honcho.printer import Message, Printer

from agentflow.clock import monotonic, now
from agentflow.embedded.child import Child, Steps, start, tail
from agentflow.embedded.process_log import ProcessLog
from agentflow.embedded.roster import Roster
from agentflow.errors import Unavailable

_STOP_ORDER = ("web", "live", "flower")
"""Roles that stop first, in this order. All others follow together, so workers are last."""

_STEPS: Steps = ((signal.SIGTERM, 10.0), (signal.SIGQUIT, 8.0))
"""Warm shutdown: finish what runs. Then cold: return messages and stop. The engine retries what was interrupted."""

MOST: Final = 5
"""A process that ends this often within `WINDOW` is not restarted any more."""

WINDOW: Final = 60.0
"""Seconds."""

FIRST_PAUSE: Final = 0.5
"""Seconds before the first restart; the pause doubles with each further one in the window."""

_NAME_WIDTH = 10


def read_procfile(path: Path) -> dict[str, str]:
    """The commands of a Procfile by role, in its order."""
    return dict(parse_procfile(path.read_text()).processes)


class Restarts:
    """Decides when one process is restarted: with exponential backoff, and no more if it keeps ending."""

    def __init__(self) -> None:
        self._ends: deque[float] = deque(maxlen=MOST)

    def ended(self, now: float) -> float | None:
        """Record an end. Returns the seconds until the restart; None: no more restarts."""
        while self._ends and now - self._ends[0] > WINDOW:
            self._ends.popleft()
        self._ends.append(now)
        return None if len(self._ends) == MOST else FIRST_PAUSE * 2.0 ** (len(self._ends) - 1)


@dataclass
class _Process:
    """One process of the Procfile, over all its starts. `again_at`: when it restarts, on `monotonic`."""

    name: str
    command: str
    environment: Mapping[str, str]
    colour: str
    child: Child
    restarts: Restarts = field(default_factory=Restarts)
    reader: threading.Thread | None = None
    again_at: float | None = None

    @property
    def role(self) -> str:
        return self.name.partition(".")[0]


class Processes:
    """The running processes of one Procfile."""

    def __init__(self, roster: Roster, logs: Path, output: TextIO | None) -> None:
        """
        Args:
            roster: records the running processes.
            logs: the folder of their logs.
            output: where to print their lines, too, each with its process's name; None: nowhere.
        """
        self._roster = roster
        self._logs = logs
        self._printer = Printer(output, width=_NAME_WIDTH) if output is not None else None
        self._printing = threading.Lock()
        self._colours: Iterator[str] = get_colours()
        self._processes: list[_Process] = []

    def start(self, name: str, command: str, environment: Mapping[str, str]) -> None:
        """Start one process. `name` is its role and a number, as in `worker.2`; the shell runs the command.

        Raises:
            Unavailable: there is no shell.
        """
        child = self._start(name, command, environment)
        process = _Process(name, command, environment, next(self._colours), child)
        self._processes.append(process)
        self._read(process)

    def failure(self) -> str | None:
        """The message if a process has ended by itself; None while all run."""
        for process in self._processes:
            if process.again_at is None and process.child.ended() is not None:
                return f"{_how_it_ended(process)}; {self._end_of_log(process)}"
        return None

    def restart_ended(self) -> Iterator[str]:
        """Restart processes that ended by themselves, after their pause.

        Yields:
            messages for the user.

        Raises:
            Unavailable: a process keeps ending; the message says how, and quotes its log.
        """
        for process in self._processes:
            if process.again_at is not None:
                if monotonic() >= process.again_at:
                    self._start_again(process)
                    yield f"{process.name} runs again."
            elif process.child.ended() is not None:
                yield self._plan_restart(process)

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stop all, role by role. `hurry` is called repeatedly; once true, it ends the waiting early."""
        rest = [process.role for process in self._processes if process.role not in _STOP_ORDER]
        for roles in (*([role] for role in _STOP_ORDER), rest):
            stopping = [process for process in self._processes if process.role in roles]
            for process in stopping:
                process.child.signal_stop()
            for process in stopping:
                process.child.stop(hurry=hurry)
                self._roster.remove(process.child)
        for process in self._processes:
            if process.reader is not None:
                process.reader.join(1.0)
        self._processes.clear()

    def _start(self, name: str, command: str, environment: Mapping[str, str]) -> Child:
        return self._roster.add(start(name, ["/bin/sh", "-c", command], _STEPS, environment=environment))

    def _start_again(self, process: _Process) -> None:
        process.again_at = None
        process.child = self._start(process.name, process.command, process.environment)
        self._read(process)

    def _plan_restart(self, process: _Process) -> str:
        """Clean up after an ended process, and plan its restart."""
        pause = process.restarts.ended(monotonic())
        if pause is None:
            raise Unavailable(
                f"{_how_it_ended(process)}, {MOST} times within {WINDOW:.0f} s: it is not started again; "
                f"{self._end_of_log(process)}"
            )
        how = _how_it_ended(process)
        process.child.stop()
        self._roster.remove(process.child)
        process.again_at = monotonic() + pause
        return f"{how}; it is started again in {pause:g} s. Its log: {self._log_of(process.name)}"

    def _end_of_log(self, process: _Process) -> str:
        if process.reader is not None:
            process.reader.join(0.5)  # its last lines may still be in the pipe
        log = self._log_of(process.name)
        return f"{log} ends:\n{tail(log)}"

    def _log_of(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _read(self, process: _Process) -> None:
        assert process.child.output is not None, "started with a pipe"
        log = ProcessLog(self._log_of(process.name))
        arguments = (process.name, process.child.output, process.colour, log)
        process.reader = threading.Thread(
            target=self._copy_lines, args=arguments, name=f"output of {process.name}", daemon=True
        )
        process.reader.start()

    def _copy_lines(self, name: str, output: IO[bytes], colour: str, log: ProcessLog) -> None:
        """Log and print a process's lines until it closes its output. A failure to print does not stop logging."""
        printer = self._printer
        with output:
            for line in output:
                log.write(line)
                if printer is not None:
                    try:
                        with self._printing:
                            printer.write(Message("line", line, now().astimezone(), name, colour))
                    except (
                        OSError,
                        ValueError,
                    ):  # no terminal any more; a full pipe would block the process
                        printer = None
        log.close()


def _how_it_ended(process: _Process) -> str:
    code = process.child.ended() or 0
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"{process.name} ended by itself ({how})"
