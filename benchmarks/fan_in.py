"""Measures whether the cost of a delivery depends on the width of a fan-in or fan-out, from 100 to 10,000.

First in the database alone: one settle that fans out; then as many settles, each of which delivers one value to the
same sink; then the claim of that sink, which loads them all. Then on the full stack, with workers.
"""

from collections.abc import Sequence
from contextlib import closing
from typing import Any, Final

from benchmarks import graphs
from benchmarks.flows import Flows
from benchmarks.ground import Ground, new_owner
from benchmarks.hot_path import HotPath
from benchmarks.report import Part, Table, median, percentile, say
from benchmarks.shapes import USUAL, Side

_WIDTHS: Final = (100, 1_000, 10_000)
_DELIVERIES: Final = 1_000
"""The least number of deliveries to measure at each width: narrow graphs run several times."""

_HEADER: Final = (
    "pins",
    "settle p50 / p99 ms",
    "first tenth ms",
    "last tenth ms",
    "claim p50 / p99 ms",
    "fan-out µs a sink",
    "claim of the sink ms",
)


def measure(ground: Ground, *, quick: bool) -> Part:
    """Measure the costs at each width."""
    part = Part("fan-in")
    widths = _WIDTHS[:2] if quick else _WIDTHS
    url = ground.fresh_database("bench_fan_in")
    path = HotPath(url, new_owner(url))
    try:
        _at_width(path, 100)  # warm up connections, plans and caches
        part.data["database"] = {}
        for width in widths:
            found = part.data["database"][str(width)] = _at_width(path, width)
            say(f"fan-in of {width:,}: settle p50 {found['settle_ms']['p50']:.2f} ms")
    finally:
        path.close()
    rows = [_row(width, found) for width, found in part.data["database"].items()]
    part.tables.append(Table("Fan-in and fan-out in the database", _HEADER, rows, ["One connection, durable commits."]))
    part.data["full_stack"] = _full_stack(ground, widths)
    rows = [[width, f"{found['ms_a_step']:.2f}"] for width, found in part.data["full_stack"].items()]
    note = f"Source, steps and gather over real workers ({USUAL}); best of two runs."
    part.tables.append(Table("Fan-in over the full stack", ("pins", "ms a step"), rows, [note]))
    return part


def _at_width(path: HotPath, width: int) -> dict[str, Any]:
    plan = path.store(graphs.fan(width))
    claims: list[float] = []
    settles: list[float] = []
    fan_out, sink_claims, tenths = [], [], []
    for _ in range(max(1, _DELIVERIES // width)):
        run_id, ready = path.start(plan)
        path.claim(plan, run_id, ready[0])
        steps = path.settle(plan, run_id, ready[0])
        fan_out.append(path.take_costs().settles[0] * 1000 / width)
        sinks = []
        for step in steps:
            path.claim(plan, run_id, step)
            sinks += path.settle(plan, run_id, step)
        costs = path.take_costs()
        claims += costs.claims
        settles += costs.settles
        tenth = width // 10
        tenths.append((median(costs.settles[:tenth]), median(costs.settles[-tenth - 1 : -1])))
        path.claim(plan, run_id, sinks[0])
        sink_claims += path.take_costs().claims
    return {
        "claim_ms": {"p50": percentile(claims, 0.5), "p99": percentile(claims, 0.99)},
        "settle_ms": {"p50": percentile(settles, 0.5), "p99": percentile(settles, 0.99)},
        "settle_ms_by_tenth": {"first": median([t[0] for t in tenths]), "last": median([t[1] for t in tenths])},
        "fan_out_us_a_sink": median(fan_out),
        "claim_of_sink_ms": median(sink_claims),
    }


def _row(width: str, found: dict[str, Any]) -> list[str]:
    return [
        f"{int(width):,}",
        f"{found['settle_ms']['p50']:.2f} / {found['settle_ms']['p99']:.2f}",
        f"{found['settle_ms_by_tenth']['first']:.2f}",
        f"{found['settle_ms_by_tenth']['last']:.2f}",
        f"{found['claim_ms']['p50']:.2f} / {found['claim_ms']['p99']:.2f}",
        f"{found['fan_out_us_a_sink']:.0f}",
        f"{found['claim_of_sink_ms']:.1f}",
    ]


def _full_stack(ground: Ground, widths: Sequence[int]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    with (
        closing(Flows(ground.owner_id, ground.database_url)) as flows,
        Side.agentflow(ground, flows, {}).workers(ground, USUAL, ()),
    ):
        for width in widths:
            graph_id = flows.store(graphs.fan(width))
            expected = list(range(1, width + 1))
            seconds = min(flows.time(graph_id, 1, expected) for _ in range(2))
            say(f"fan of {width:,} over the full stack: {width / seconds:.0f} steps/s")
            found[str(width)] = {"seconds": seconds, "ms_a_step": seconds * 1000 / width}
    return found
