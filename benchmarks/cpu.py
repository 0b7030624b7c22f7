"""Measures the CPU time of a step in each process, by shape and side.

On a machine with few cores CPU time determines throughput, and unlike wall-clock time it hardly depends on other load.
Linux only: it reads /proc.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.ground import Ground
from benchmarks.report import Part, Table, say
from benchmarks.shapes import USUAL, Shape, Side, both_sides

_PROC: Final = Path("/proc")
_MILLISECONDS: Final = 1000 / os.sysconf("SC_CLK_TCK")
_COLUMNS: Final = ("submitter", "worker main", "worker children", "PostgreSQL", "Valkey")


def measure(ground: Ground, shapes: Sequence[Shape], *, quick: bool) -> Part:
    """Measure the CPU milliseconds of a step, by process."""
    part = Part("cpu")
    if not _PROC.joinpath("self/stat").is_file():
        say("no /proc here: CPU time is not measured")
        return part
    rows = []
    runs = 2 if quick else 5
    with both_sides(ground, shapes) as sides:
        for side in sides:
            with side.workers(ground, USUAL, shapes) as workers:
                for shape in shapes:
                    found = _of(ground, side, shape, workers, runs)
                    say(f"CPU of a step, {shape.title}, {side.name}: {sum(found.values()):.2f} ms")
                    part.data.setdefault(shape.name, {})[side.name] = found
    for shape in shapes:
        for name, found in part.data[shape.name].items():
            cells = [f"{found[column]:.2f}" for column in _COLUMNS]
            rows.append([f"{shape.title}, {name}", *cells, f"{sum(found.values()):.2f}"])
    note = f"Milliseconds of CPU a step, mean of {runs} runs, workers {USUAL}."
    part.tables.append(Table("Where the time goes", ("", *_COLUMNS, "all"), rows, [note]))
    return part


def of_tree(root: int) -> float:
    """CPU milliseconds so far of a process and all its descendants; NaN without /proc."""
    if not _PROC.joinpath("self/stat").is_file():
        return math.nan
    parents, own, reaped = _table()
    members, grown = {root}, True
    while grown:
        below = {pid for pid, parent in parents.items() if parent in members} - members
        members |= below
        grown = bool(below)
    return sum(own[pid] + reaped[pid] for pid in members & own.keys())


def _of(ground: Ground, side: Side, shape: Shape, workers: Sequence[int], runs: int) -> dict[str, float]:
    before = _used(ground, side, workers)
    for _ in range(runs):
        side.measure(shape)
    after = _used(ground, side, workers)
    return {column: (after[column] - before[column]) / (runs * shape.steps) for column in _COLUMNS}


def _used(ground: Ground, side: Side, workers: Sequence[int]) -> dict[str, float]:
    """CPU milliseconds so far, by column."""
    parents, own, reaped = _table()
    postgres, valkey = ground.stack.postgres, ground.stack.valkey
    assert postgres is not None
    assert valkey is not None
    children = [pid for pid, parent in parents.items() if parent in workers]
    servers = [pid for pid, parent in parents.items() if parent == postgres.child.pid]
    return {
        "submitter": own[side.submitter],
        "worker main": sum(own[pid] for pid in workers),
        "worker children": sum(own[pid] for pid in children) + sum(reaped[pid] for pid in workers),
        "PostgreSQL": own[postgres.child.pid] + reaped[postgres.child.pid] + sum(own[pid] for pid in servers),
        "Valkey": own[valkey.child.pid],
    }


def _table() -> tuple[dict[int, int], dict[int, float], dict[int, float]]:
    """For every process: its parent; its own CPU milliseconds; those of its ended children."""
    parents, own, reaped = {}, {}, {}
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The second field is the name in parentheses, which may contain anything.
            fields = entry.joinpath("stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        pid = int(entry.name)
        parents[pid] = int(fields[1])
        own[pid] = (int(fields[11]) + int(fields[12])) * _MILLISECONDS
        reaped[pid] = (int(fields[13]) + int(fields[14])) * _MILLISECONDS
    return parents, own, reaped
