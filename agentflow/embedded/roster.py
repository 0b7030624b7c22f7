"""Which processes belong to this data directory, so that a killed owner's can be found and ended?

On Linux children end with their owner anyway (`leash.py`); this is for other systems, and for a child that was slow to
go. A process is only ever ended if its number *and* its time of birth are those written down.
"""

import json
import signal
from pathlib import Path

from agentflow.embedded.child import Child
from agentflow.embedded.identity import Identity, end, is_alive
from agentflow.embedded.private import write_private

ROSTER_FILE = "processes.json"
_STEPS = ((signal.SIGTERM, 5.0), (signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 10.0))
"""Right for all: warm or smart, then fast, then at once (what SIGINT and SIGQUIT are to PostgreSQL)."""


class Roster:
    """The running children of one data directory, kept in a file."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / ROSTER_FILE
        self._names: dict[Identity, str] = {}

    def add(self, child: Child) -> Child:
        """Write a child down, just started. Returns the child."""
        if child.identity is not None:
            self._names[child.identity] = child.name
            self._write()
        return child

    def remove(self, child: Child) -> None:
        """Forget a child that has ended."""
        if child.identity is not None and self._names.pop(child.identity, ""):
            self._write()

    def end_orphans(self) -> list[str]:
        """End what a killed owner left running. Returns the names of those that still ran."""
        found = [(name, identity) for name, identity in self._read() if is_alive(identity)]
        # The servers were started first; what uses them goes first.
        for _, identity in reversed(found):
            end(identity, _STEPS)
        self._path.unlink(missing_ok=True)
        return [name for name, _ in found]

    def _read(self) -> list[tuple[str, Identity]]:
        try:
            rows = json.loads(self._path.read_text())
            return [(row["name"], Identity(row["pid"], row["born"])) for row in rows]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError):  # a disk that was full, a hand that edited: nothing to go by
            return []

    def _write(self) -> None:
        if not self._names:
            self._path.unlink(missing_ok=True)
            return
        rows = [{"name": name, "pid": each.pid, "born": each.born} for each, name in self._names.items()]
        write_private(self._path, json.dumps(rows, indent=1))
