"""Measures how many no-op tasks without state plain Celery publishes and runs: the upper limit of throughput."""

from typing import Final

from benchmarks.canvas_client import canvas_client
from benchmarks.fleet import Layout, fleet
from benchmarks.ground import Ground
from benchmarks.report import Part, Table, median, say

_COUNT: Final = 2_000
_LAYOUTS: Final = (Layout(1, 2), Layout(2, 1))


def measure(ground: Ground, *, quick: bool) -> Part:
    """Measure tasks per second with each worker layout."""
    part = Part("no-ops")
    rows = []
    for layout in _LAYOUTS[:1] if quick else _LAYOUTS:
        with (
            canvas_client(ground.environment) as client,
            fleet(ground, "benchmarks.canvas", ground.canvas_broker, layout),
        ):
            client.run_noops(_COUNT // 10)
            rate = median([_COUNT / client.run_noops(_COUNT) for _ in range(1 if quick else 3)])
        say(f"no-op tasks with {layout}: {rate:.0f}/s")
        part.data[str(layout)] = {"per_second": rate}
        rows.append([str(layout), f"{rate:.0f}"])
    note = f"{_COUNT:,} tasks, published one by one and run at the same time; no result, no successor, nothing durable."
    part.tables.append(Table("Bare no-op tasks of plain Celery", ("workers", "tasks /s"), rows, [note]))
    return part
