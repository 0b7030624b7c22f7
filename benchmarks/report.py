"""Summarises measurements as percentiles, and prints tables that are also valid Markdown."""

import math
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_STARTED = time.monotonic()


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a header. The first column is left-aligned, the others right-aligned."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def text(self) -> str:
        """The table in Markdown, its columns aligned."""
        lines = [list(self.header), *map(list, self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]
        body = [_line(line, widths) for line in lines]
        body.insert(1, "|" + "|".join("-" * (w + 1) + ("-" if n == 0 else ":") for n, w in enumerate(widths)) + "|")
        notes = [f"\n{note}" for note in self.notes]
        return "\n".join([f"### {self.title}", "", *body, *notes])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    set_out = [
        cell.ljust(w) if n == 0 else cell.rjust(w) for n, (cell, w) in enumerate(zip(cells, widths, strict=True))
    ]
    return "| " + " | ".join(set_out) + " |"


@dataclass(slots=True)
class Part:
    """The results of one part of the benchmark: tables for people, data for programs."""

    name: str
    tables: list[Table] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` such that at least `share` (0 to 1) of them do not exceed it."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def median(values: Sequence[float]) -> float:
    """The median; of an even number of values, the mean of the middle two."""
    ranked = sorted(values)
    middle = len(ranked) // 2
    return ranked[middle] if len(ranked) % 2 else (ranked[middle - 1] + ranked[middle]) / 2


def spread(values: Sequence[float]) -> str:
    """`p50 / p99` with two decimals."""
    return f"{percentile(values, 0.5):.2f} / {percentile(values, 0.99):.2f}"


def say(message: str) -> None:
    """Print a line of progress, with the seconds since the start."""
    print(f"[{time.monotonic() - _STARTED:6.1f} s] {message}", flush=True)


def machine() -> dict[str, Any]:
    """A description of this machine."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }
