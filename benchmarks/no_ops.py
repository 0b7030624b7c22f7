"""How many bare tasks does plain Celery publish and run, with no state at all? The reference below which nothing is."""

from typing import Final

from benchmarks.canvas_client import canvas_client
from benchmarks.fleet import Layout, fleet
from benchmarks.ground import Ground
from benchmarks.report import Part, Table, median, say

_COUNT: Final = 2_000
_LAYOUTS: Final = (Layout(1, 2), Layout(2, 1))


def measure(ground: Ground, *, quick: bool) -> Part:
    """Tasks a second, the better of two worker layouts."""
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
