"""How are the Procfile's processes run side by side, watched, and stopped in order?

Honcho reads the Procfile and prints the lines. Its manager is not used: it stops everything at once and kills after
five seconds, where workers are to finish what they run, and after the web server has stopped giving them more.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TextIO

from honcho.colour import get_colours
from honcho.environ import parse_procfile
from honcho.printer import Message, Printer

from agentflow.clock import now
from agentflow.embedded.child import Child, Steps, start, tail
from agentflow.embedded.roster import Roster

_STOP_ORDER = ("web", "flower")
"""Roles that stop first, in this order; all others follow together, so that workers are the last."""

_STEPS: Steps = ((signal.SIGTERM, 10.0), (signal.SIGQUIT, 8.0))
"""Warm: finish what runs. Then cold: stop now, give messages back. The engine runs again what is cut off."""

_NAME_WIDTH = 10


def read_procfile(path: Path) -> dict[str, str]:
    """The commands of a Procfile by role, in its order."""
    return dict(parse_procfile(path.read_text()).processes)


class Processes:
    """The running processes of one Procfile."""

    def __init__(self, roster: Roster, logs: Path, output: TextIO | None) -> None:
        """
        Args:
            roster: where the running processes are written down.
            logs: the folder of their logs.
            output: where their lines are printed, each with its process's name; None: to files in `logs` instead.
        """
        self._roster = roster
        self._logs = logs
        self._printer = Printer(output, width=_NAME_WIDTH) if output is not None else None
        self._printing = threading.Lock()
        self._colours: Iterator[str] = get_colours()
        self._children: dict[str, list[Child]] = {}
        self._readers: list[threading.Thread] = []

    def start(self, name: str, command: str, environment: Mapping[str, str]) -> None:
        """Start one process; `name` is its role and a number, as in `worker.2`. The command is the shell's to read.

        Raises:
            Unavailable: there is no shell.
        """
        log = None if self._printer else self._logs / f"{name}.log"
        child = start(name, ["/bin/sh", "-c", command], _STEPS, log=log, environment=environment)
        self._roster.add(child)
        self._children.setdefault(name.partition(".")[0], []).append(child)
        if child.output is not None:
            arguments = (child.name, child.output, next(self._colours))
            reader = threading.Thread(target=self._print, args=arguments, name=f"output of {name}", daemon=True)
            reader.start()
            self._readers.append(reader)

    def failure(self) -> str | None:
        """What to tell a person if a process has ended by itself; None while all run."""
        for child in (child for children in self._children.values() for child in children):
            code = child.ended()
            if code is not None:
                how = f"signal {-code}" if code < 0 else f"exit code {code}"
                log = self._logs / f"{child.name}.log"
                said = f"; {log} ends:\n{tail(log)}" if self._printer is None else ""
                return f"{child.name} ended by itself ({how}){said}"
        return None

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stop all, role by role; `hurry`, asked again and again, cuts the waiting short."""
        rest = [role for role in self._children if role not in _STOP_ORDER]
        for roles in (*([role] for role in _STOP_ORDER), rest):
            children = [child for role in roles for child in self._children.pop(role, [])]
            for child in children:
                child.signal_stop()
            for child in children:
                child.stop(hurry=hurry)
                self._roster.remove(child)
        for reader in self._readers:
            reader.join(1.0)

    def _print(self, name: str, output: IO[bytes], colour: str) -> None:
        """Print a process's lines until it closes its output; when we cannot print any more, keep on reading."""
        printer = self._printer
        with output:
            for line in output:
                if printer is not None:
                    try:
                        with self._printing:
                            printer.write(Message("line", line, now().astimezone(), name, colour))
                    except (OSError, ValueError):  # the terminal is gone; a full pipe would stop the process
                        printer = None
