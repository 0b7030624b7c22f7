"""Records the processes of a data directory, so that those of a killed owner can be found and stopped.

On Linux children end with their owner anyway (`leash.py`); this is for other systems, and for children that are slow to
end. A process is stopped only if both its pid *and* its start time match the record.
"""

import json
import signal
from pathlib import Path

from agentflow.embedded.child import Child
from agentflow.embedded.identity import Identity, end, is_alive
from agentflow.embedded.private import write_private

ROSTER_FILE = "processes.json"
_STEPS = ((signal.SIGTERM, 5.0), (signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 10.0))
"""Right for all processes: a graceful shutdown, then a fast, then an immediate one (in PostgreSQL's terms)."""


class Roster:
    """The running children of one data directory, kept in a file."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / ROSTER_FILE
        self._names: dict[Identity, str] = {}

    def add(self, child: Child) -> Child:
        """Record a child that was just started. Returns the child."""
        if child.identity is not None:
            self._names[child.identity] = child.name
            self._write()
        return child

    def remove(self, child: Child) -> None:
        """Forget a child that has ended."""
        if child.identity is not None and self._names.pop(child.identity, ""):
            self._write()

    def end_orphans(self) -> list[str]:
        """Stop what a killed owner left running. Returns the names of those processes."""
        found = [(name, identity) for name, identity in self._read() if is_alive(identity)]
        # Servers were started first; stop what uses them before them.
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
        except (ValueError, KeyError, TypeError):  # truncated by a full disk, or edited by hand
            return []

    def _write(self) -> None:
        if not self._names:
            self._path.unlink(missing_ok=True)
            return
        rows = [{"name": name, "pid": each.pid, "born": each.born} for each, name in self._names.items()]
        write_private(self._path, json.dumps(rows, indent=1))
