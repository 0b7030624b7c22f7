"""How are the Procfile's processes run side by side, watched, started again, and stopped in order?

What a process prints is kept on the disk. One that ends by itself is started again (`restarts.py`), as a person expects
of what supervises it.

Honcho reads the Procfile and prints the lines. Its manager is not used: it stops everything at once and kills after
five seconds, where workers are to finish what they run, and after the web server has stopped giving them more.
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

_STOP_ORDER = ("web", "flower")
"""Roles that stop first, in this order; all others follow together, so that workers are the last."""

_STEPS: Steps = ((signal.SIGTERM, 10.0), (signal.SIGQUIT, 8.0))
"""Warm: finish what runs. Then cold: stop now, give messages back. The engine runs again what is cut off."""

MOST: Final = 5
"""Ends within `WINDOW` after which a process is given up."""

WINDOW: Final = 60.0
"""Seconds."""

FIRST_PAUSE: Final = 0.5
"""Seconds before the first new start; each further one within the window waits twice as long."""

_NAME_WIDTH = 10


def read_procfile(path: Path) -> dict[str, str]:
    """The commands of a Procfile by role, in its order."""
    return dict(parse_procfile(path.read_text()).processes)


class Restarts:
    """The ends of one process, and what follows from them."""

    def __init__(self) -> None:
        self._ends: deque[float] = deque(maxlen=MOST)

    def ended(self, now: float) -> float | None:
        """Take note of an end. Returns the seconds after which to start it again; None: it is given up."""
        while self._ends and now - self._ends[0] > WINDOW:
            self._ends.popleft()
        self._ends.append(now)
        return None if len(self._ends) == MOST else FIRST_PAUSE * 2.0 ** (len(self._ends) - 1)


@dataclass
class _Process:
    """One process of the Procfile, over all its starts. `again_at`: when it is started again, on `monotonic`."""

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
            roster: where the running processes are written down.
            logs: the folder of their logs.
            output: where their lines are printed besides, each with its process's name; None: nowhere.
        """
        self._roster = roster
        self._logs = logs
        self._printer = Printer(output, width=_NAME_WIDTH) if output is not None else None
        self._printing = threading.Lock()
        self._colours: Iterator[str] = get_colours()
        self._processes: list[_Process] = []

    def start(self, name: str, command: str, environment: Mapping[str, str]) -> None:
        """Start one process; `name` is its role and a number, as in `worker.2`. The command is the shell's to read.

        Raises:
            Unavailable: there is no shell.
        """
        child = self._start(name, command, environment)
        process = _Process(name, command, environment, next(self._colours), child)
        self._processes.append(process)
        self._read(process)

    def failure(self) -> str | None:
        """What to tell a person if a process has ended by itself; None while all run."""
        for process in self._processes:
            if process.again_at is None and process.child.ended() is not None:
                return f"{_how_it_ended(process)}; {self._last_words(process)}"
        return None

    def mend(self) -> Iterator[str]:
        """Start again what has ended by itself, when its time has come. Gives out what to tell a person.

        Raises:
            Unavailable: one ends again and again; the message says how, and its last words.
        """
        for process in self._processes:
            if process.again_at is not None:
                if monotonic() >= process.again_at:
                    self._start_again(process)
                    yield f"{process.name} runs again."
            elif process.child.ended() is not None:
                yield self._note_end(process)

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stop all, role by role; `hurry`, asked again and again, cuts the waiting short."""
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

    def _note_end(self, process: _Process) -> str:
        """Take away what an ended process left, and plan its next start."""
        pause = process.restarts.ended(monotonic())
        if pause is None:
            raise Unavailable(
                f"{_how_it_ended(process)}, {MOST} times within {WINDOW:.0f} s: it is not started again; "
                f"{self._last_words(process)}"
            )
        told = _how_it_ended(process)
        process.child.stop()
        self._roster.remove(process.child)
        process.again_at = monotonic() + pause
        return f"{told}; it is started again in {pause:g} s. Its log: {self._log_of(process.name)}"

    def _last_words(self, process: _Process) -> str:
        if process.reader is not None:
            process.reader.join(0.5)  # what it said last is on its way
        log = self._log_of(process.name)
        return f"{log} ends:\n{tail(log)}"

    def _log_of(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _read(self, process: _Process) -> None:
        assert process.child.output is not None, "started with a pipe"
        log = ProcessLog(self._log_of(process.name))
        arguments = (process.name, process.child.output, process.colour, log)
        process.reader = threading.Thread(
            target=self._keep, args=arguments, name=f"output of {process.name}", daemon=True
        )
        process.reader.start()

    def _keep(self, name: str, output: IO[bytes], colour: str, log: ProcessLog) -> None:
        """Keep a process's lines, and print them, until it closes its output; what cannot be printed is kept still."""
        printer = self._printer
        with output:
            for line in output:
                log.write(line)
                if printer is not None:
                    try:
                        with self._printing:
                            printer.write(Message("line", line, now().astimezone(), name, colour))
                    except (OSError, ValueError):  # the terminal is gone; a full pipe would stop the process
                        printer = None
        log.close()


def _how_it_ended(process: _Process) -> str:
    code = process.child.ended() or 0
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"{process.name} ended by itself ({how})"
