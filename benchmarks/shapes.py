"""Compares AgentFlow with plain Celery canvas, in paired rounds of the same shape on the same machine.

Each side runs with its fastest worker layout for the shape, found in a calibration round. During a shape's rounds the
workers of both sides run, but only one side has work at a time; the side that goes first alternates.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from benchmarks import graphs
from benchmarks.canvas_client import CanvasClient, canvas_client
from benchmarks.fleet import Layout, fleet
from benchmarks.flows import Flows
from benchmarks.ground import Ground
from benchmarks.report import Part, Table, median, say

CHAIN: Final = "chain"
CHAINS: Final = "chains"
FAN: Final = "fan"

LAYOUTS: Final = (Layout(1, 1), Layout(1, 2), Layout(1, 4), Layout(2, 1))
USUAL: Final = Layout(1, 2)
"""The layout without a calibration round."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape of work. Durations are divided by `steps`, which excludes a fan's source, gather and output."""

    name: str
    title: str
    steps: int
    goal: float  # the wanted ratio
    document: Callable[[], graphs.Document]
    runs: int
    expected: Any
    on_canvas: Callable[[CanvasClient], float]


SHAPES: Final = (
    Shape(CHAIN, "chain of 300", 300, 1.5, lambda: graphs.chain(300), 1, 299, lambda client: client.run_chains(1, 300)),
    Shape(
        CHAINS, "40 chains of 25", 1000, 1.2, lambda: graphs.chain(25), 40, 24, lambda client: client.run_chains(40, 25)
    ),
    Shape(
        FAN,
        "fan of 1,000",
        1000,
        1.2,
        lambda: graphs.fan(1000),
        1,
        list(range(1, 1001)),
        lambda client: client.run_fan(1000),
    ),
)


class Side:
    """One of the two sides: starts its workers, and measures a shape."""

    def __init__(self, name: str, app: str, broker_url: str, submitter: int, measure: Callable[[Shape], float]) -> None:
        """`submitter`: the pid of the submitting process."""
        self.name = name
        self.app = app
        self.submitter = submitter
        self.measure = measure
        self._broker_url = broker_url

    @classmethod
    def agentflow(cls, ground: Ground, flows: Flows, stored: Mapping[str, UUID]) -> "Side":
        """AgentFlow. `stored`: shape name → id of its graph."""

        def measure(shape: Shape) -> float:
            return flows.time(stored[shape.name], shape.runs, shape.expected)

        return cls("AgentFlow", "agentflow", ground.stack.broker_url, os.getpid(), measure)

    @classmethod
    def canvas(cls, ground: Ground, client: CanvasClient) -> "Side":
        """Plain Celery."""

        def measure(shape: Shape) -> float:
            return shape.on_canvas(client)

        return cls("Celery canvas", "benchmarks.canvas", ground.canvas_broker, client.pid, measure)

    @contextmanager
    def workers(self, ground: Ground, layout: Layout, shapes: Sequence[Shape]) -> Iterator[list[int]]:
        """Run its workers, warmed up with one run of each of `shapes`. Yields their pids."""
        with fleet(ground, self.app, self._broker_url, layout) as pids:
            for shape in shapes:
                self.measure(shape)
            yield pids


@contextmanager
def both_sides(ground: Ground, shapes: Sequence[Shape]) -> Iterator[tuple[Side, Side]]:
    """AgentFlow, with the graphs of `shapes` stored, and plain Celery."""
    with closing(Flows(ground.owner_id, ground.database_url)) as flows, canvas_client(ground.environment) as client:
        stored = {shape.name: flows.store(shape.document()) for shape in shapes}
        yield Side.agentflow(ground, flows, stored), Side.canvas(ground, client)


def calibrate(ground: Ground, side: Side, shapes: Sequence[Shape]) -> dict[str, Layout]:
    """Find the fastest layout of `side` for each shape, with two runs each."""
    best: dict[str, tuple[float, Layout]] = {}
    for layout in LAYOUTS:
        with side.workers(ground, layout, shapes):
            found = []
            for shape in shapes:
                seconds = min(side.measure(shape) for _ in range(2))
                best[shape.name] = min(best.get(shape.name, (seconds, layout)), (seconds, layout), key=lambda b: b[0])
                found.append(f"{shape.title} {shape.steps / seconds:.0f}/s")
        say(f"calibrating {side.name} with {layout}: {', '.join(found)}")
    return {name: layout for name, (_, layout) in best.items()}


def measure(ground: Ground, names: Sequence[str], rounds: int, *, quick: bool) -> Part:
    """Measure the ratio on each of the named shapes: the median of `rounds` paired rounds."""
    shapes = [shape for shape in SHAPES if shape.name in names]
    part = Part("shapes")
    with both_sides(ground, shapes) as sides:
        layouts = [
            {shape.name: USUAL for shape in shapes} if quick else calibrate(ground, side, shapes) for side in sides
        ]
        for chosen, alike in _by_layouts(shapes, layouts):
            with ExitStack() as running:
                for side, layout in zip(sides, chosen, strict=True):
                    running.enter_context(side.workers(ground, layout, alike))
                for shape in alike:
                    part.data[shape.name] = _summary(shape, chosen, _paired(sides, shape, rounds))
    rows = [_row(shape, part.data[shape.name]) for shape in shapes]
    header = (
        "shape",
        "AgentFlow /s",
        "canvas /s",
        "ratio",
        "each round",
        "goal",
        "AgentFlow workers",
        "canvas workers",
    )
    note = (
        f"Steps a second, medians of {rounds} paired rounds; ratio: median of the rounds' ratios. AgentFlow: submitted "
        "in this process by the API's service, until the run has ended; everything durable. Canvas: `delay()` until "
        "the result is here."
    )
    part.tables.append(Table("AgentFlow and plain Celery canvas", header, rows, [note]))
    return part


def _by_layouts(
    shapes: Sequence[Shape], layouts: Sequence[Mapping[str, Layout]]
) -> Iterator[tuple[tuple[Layout, ...], list[Shape]]]:
    """Group the shapes that use the same layouts on both sides."""
    found: dict[tuple[Layout, ...], list[Shape]] = {}
    for shape in shapes:
        found.setdefault(tuple(layout[shape.name] for layout in layouts), []).append(shape)
    yield from found.items()


def _paired(sides: Sequence[Side], shape: Shape, rounds: int) -> list[tuple[float, float]]:
    """Measure both sides in each round, in seconds."""
    found = []
    for number in range(rounds):
        seconds = [0.0, 0.0]
        for turn in (0, 1) if number % 2 == 0 else (1, 0):
            seconds[turn] = sides[turn].measure(shape)
        found.append((seconds[0], seconds[1]))
        ours, theirs = (shape.steps / value for value in seconds)
        say(f"{shape.title}, round {number + 1}: AgentFlow {ours:.0f}/s, canvas {theirs:.0f}/s, {ours / theirs:.2f} ×")
    return found


def _summary(shape: Shape, layouts: Sequence[Layout], found: Sequence[tuple[float, float]]) -> dict[str, Any]:
    return {
        "title": shape.title,
        "goal": shape.goal,
        "workers": {"agentflow": str(layouts[0]), "canvas": str(layouts[1])},
        "agentflow_per_second": [round(shape.steps / ours, 1) for ours, _ in found],
        "canvas_per_second": [round(shape.steps / theirs, 1) for _, theirs in found],
        "ratios": [round(theirs / ours, 3) for ours, theirs in found],
    }


def _row(shape: Shape, summary: dict[str, Any]) -> list[str]:
    return [
        shape.title,
        f"{median(summary['agentflow_per_second']):.0f}",
        f"{median(summary['canvas_per_second']):.0f}",
        f"{median(summary['ratios']):.2f} ×",
        " ".join(f"{ratio:.2f}" for ratio in summary["ratios"]),
        f"{shape.goal:.1f} ×",
        summary["workers"]["agentflow"],
        summary["workers"]["canvas"],
    ]
