"""Measures whether the memory of any process grows over very many node executions.

    python -m benchmarks.soak --executions 500000 --timeouts 500 --cancelled 500

The API server and the workers run as in production. Graphs are submitted over HTTP, a few at a time; some of them time
out or are cancelled. The main figure is PSS, the proportional share, in which pages shared by forked children count
once. Private memory and RSS, in which shared pages count for each process, are listed beside it. Growth in all three
means allocation; growth in private memory but not in RSS means that shared pages were copied on write. Memory is
measured after 5 % (by then everything is warm), after 50 % and at the end. Linux only: it reads /proc.
"""

import argparse
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from agentflow.accounts.keys import create as create_key
from agentflow.client.client import Client
from agentflow.embedded.child import Child, start
from agentflow.embedded.private import free_port
from agentflow.errors import AgentFlowError
from agentflow.services.transaction import transaction
from benchmarks import graphs
from benchmarks.fleet import Layout, fleet
from benchmarks.ground import Ground, ground
from benchmarks.report import Table, say

_KINDS: Final = {"PSS": ("Pss",), "private": ("Private_Clean", "Private_Dirty"), "RSS": ("Rss",)}
"""Kind of memory → its fields in /proc/…/smaps_rollup."""

_AT_ONCE: Final = 20  # concurrent runs; fewer than the limit of one user
_SLEEPING: Final = Path(__file__).resolve().parent.parent / "tests/scenarios/blocks"  # has a block that only sleeps
_SLEEP_BLOCK: Final = "5ce0a001-0000-4000-8000-000000000001"
_START_SECONDS: Final = 60.0
_PATIENCE: Final = 300.0  # timeout of a run, in seconds
_STEPS: Final = ((15, 15.0), (9, 5.0))
_KIB_A_MIB: Final = 1024


@dataclass
class _Load:
    """The runs to make, and their progress."""

    client: Client
    chain: UUID
    chains: int
    slow: int
    stopped: int
    done: int = 0
    under_way: deque[tuple[UUID, str]] = field(default_factory=deque)

    def run(self) -> Iterator[float]:
        """Make all runs. Yields the share that is done, repeatedly."""
        kinds = _mixed({"COMPLETED": self.chains, "FAILED": self.slow, "CANCELLED": self.stopped})
        total = self.chains + self.slow + self.stopped
        for kind in kinds:
            while len(self.under_way) >= _AT_ONCE:
                self._await_first()
                yield self.done / total
            self.under_way.append((self._submit(kind), kind))
        while self.under_way:
            self._await_first()
            yield self.done / total

    def _submit(self, kind: str) -> UUID:
        if kind == "COMPLETED":
            return self.client.submit(self.chain).id
        settings = {"timeout": 0.05} if kind == "FAILED" else {}
        node = {"id": "n", "block_id": _SLEEP_BLOCK, "input_default": {"seconds": 60}, "settings": settings}
        run_id = self.client.submit_inline({"name": kind, "nodes": [node], "links": []}).id
        if kind == "CANCELLED":
            _until(lambda: self.client.get_run(run_id).status != "QUEUED")
            self.client.cancel(run_id)
        return run_id

    def _await_first(self) -> None:
        run_id, kind = self.under_way.popleft()
        _until(lambda: self.client.get_run(run_id).ended)
        found = self.client.get_run(run_id)
        if found.status != kind:
            raise RuntimeError(f"run {run_id} ended {found.status}, not {kind}: {found.error}")
        self.done += 1


def _mixed(counts: Mapping[str, int]) -> Iterator[str]:
    """Each kind as often as `counts` says, spread evenly."""
    total = sum(counts.values())
    given = dict.fromkeys(counts, 0)
    for number in range(1, total + 1):
        kind = max(counts, key=lambda one: counts[one] * number / total - given[one])
        given[kind] += 1
        yield kind


def _until(condition: Any) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"a run did not get on within {_PATIENCE:.0f} s")
        time.sleep(0.02)


def _memory(roots: Mapping[str, Sequence[int]]) -> dict[tuple[str, str], float]:
    """MiB by (kind of process, kind of memory). Child processes are summed up separately, as "<name>: children"."""
    parents = _parents()
    groups = {}
    for name, pids in roots.items():
        groups[name] = list(pids)
        if below := [pid for pid, parent in parents.items() if parent in pids]:
            groups[f"{name}: children"] = below
    found: dict[tuple[str, str], float] = {}
    for name, pids in groups.items():
        mapped = [_mapped(pid) for pid in pids]
        for kind, fields in _KINDS.items():
            found[name, kind] = sum(one.get(each, 0) for one in mapped for each in fields) / _KIB_A_MIB
    return found


def _parents() -> dict[int, int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                parents[int(entry.name)] = int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
    return parents


def _mapped(pid: int) -> dict[str, int]:
    """The memory of the process in KiB, by field of /proc/…/smaps_rollup."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:  # it has ended
        return {}
    return {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}


@contextmanager
def _web(there: Ground, port: int) -> Iterator[Child]:
    command: list[str | Path] = [Path(sys.executable).with_name("gunicorn"), "-c", "python:agentflow.api.gunicorn"]
    command += ["--bind", f"127.0.0.1:{port}", "--no-control-socket", "agentflow.api.wsgi:app"]
    environment = {**there.environment, "AGENTFLOW_REQUEST_RATE": "100000"}
    child = start("web", command, _STEPS, log=there.folder / "web.log", environment=environment, folder=there.folder)
    try:
        yield child
    finally:
        child.stop()


def _soak(there: Ground, options: argparse.Namespace) -> Table:
    port = free_port()
    with transaction() as session:
        key = create_key(session, there.owner_id, "soak")[0]
    layout = Layout(1, options.children)
    with (
        _web(there, port) as web,
        fleet(there, "agentflow", there.stack.broker_url, layout) as workers,
        Client(f"http://127.0.0.1:{port}", key, attempts=30) as client,
    ):
        stack = there.stack
        assert stack.postgres is not None
        assert stack.valkey is not None
        roots = {
            "API server": [web.pid],
            "worker": workers,
            "PostgreSQL": [stack.postgres.child.pid],
            "Valkey": [stack.valkey.child.pid],
        }
        chain = client.get_run(client.submit_inline(graphs.chain(options.chain)).id).graph_id
        load = _Load(client, chain, options.executions // options.chain, options.timeouts, options.cancelled)
        return _watch(load, roots, options)


def _watch(load: _Load, roots: Mapping[str, Sequence[int]], options: argparse.Namespace) -> Table:
    marks = {"start": 0.05, "middle": 0.5, "end": 1.0}
    seen: dict[str, dict[tuple[str, str], float]] = {}
    began = time.monotonic()
    for share in load.run():
        for mark, at in marks.items():
            if mark not in seen and share >= at:
                seen[mark] = _memory(roots)
                sizes = (f"{name} {size:.1f}" for (name, kind), size in seen[mark].items() if kind == "PSS")
                say(f"{mark} (MiB): " + ", ".join(sizes))
    seconds = time.monotonic() - began
    done = options.executions * (marks["end"] - marks["start"]) / 1000
    rows = []
    for name, kind in seen["end"]:
        sizes = [seen[mark].get((name, kind), 0.0) for mark in marks]
        grown = f"{(sizes[2] - sizes[0]) * _KIB_A_MIB / done:.2f}"
        rows.append([name if kind == "PSS" else "", kind, *(f"{size:.1f}" for size in sizes), grown])
    note = (
        f"MiB when 5 %, 50 % and all of {options.executions} node executions are done, {options.chain} a run, with "
        f"{options.timeouts} runs that time out and {options.cancelled} that are cancelled; KiB that it grew by for "
        f"each 1,000. {options.executions / seconds:.0f} a second, worker 1 × -c {options.children}."
    )
    return Table("Memory over many node executions", ("", "", *marks, "KiB/1,000"), rows, [note])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description="Memory over many node executions.")
    parser.add_argument("--executions", type=int, default=500_000, help="node executions (%(default)s)")
    parser.add_argument("--chain", type=int, default=100, help="of a run (%(default)s)")
    parser.add_argument("--timeouts", type=int, default=500, help="runs whose block times out (%(default)s)")
    parser.add_argument("--cancelled", type=int, default=500, help="runs that are cancelled (%(default)s)")
    parser.add_argument("--children", type=int, default=4, help="of the one worker (%(default)s)")
    options = parser.parse_args()
    if options.executions < 20 * options.chain:
        parser.error(f"--executions must be at least {20 * options.chain}")
    return options


def main() -> int:
    """Run and print. Returns the exit code."""
    options = _options()
    try:
        say("starting PostgreSQL and Valkey in a temporary directory")
        with ground() as there:
            path = f"{there.environment['PYTHONPATH']}:{_SLEEPING}"
            table = _soak(replace(there, environment={**there.environment, "PYTHONPATH": path}), options)
    except (AgentFlowError, RuntimeError) as error:
        print(f"The soak ended: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"\n{table.text()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
