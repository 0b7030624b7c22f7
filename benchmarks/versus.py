"""Compares the speed of this checkout with another one, in alternating rounds with the servers and workers of both up.

    python -m benchmarks.versus ../other --rounds 20

The other checkout (such as an older commit) needs its own virtual environment `.venv`, made by `.ci/venv dev`. Ratios
to canvas vary by 10 % between runs; alternating rounds reveal a difference of 2 %.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.cpu import of_tree
from benchmarks.report import Table, median, say
from benchmarks.shapes import SHAPES

_HERE: Final = Path(__file__).resolve().parent.parent
_NAMES: Final = tuple(shape.name for shape in SHAPES)
_WARM_UP: Final = 2  # rounds that are not counted


class _Measured(NamedTuple):
    seconds: float
    cpu: float  # milliseconds, of all processes


class _Taker:
    """Controls the process that measures one checkout."""

    def __init__(self, process: "subprocess.Popen[str]", checkout: Path) -> None:
        self._process = process
        self._checkout = checkout

    def read_line(self) -> str:
        """The next line of its output.

        Raises:
            RuntimeError: it has ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the benchmark of {self._checkout} ended; what it said stands above")
        return line

    def measure(self, shape: str) -> _Measured:
        """Run a shape once."""
        assert self._process.stdin is not None
        before = of_tree(self._process.pid)
        self._process.stdin.write(f"{shape}\n")
        self._process.stdin.flush()
        seconds = float(self.read_line())
        return _Measured(seconds, of_tree(self._process.pid) - before)


@contextmanager
def _taker(checkout: Path, children: int) -> Iterator[_Taker]:
    command = [checkout / ".venv/bin/python", Path(__file__).with_name("turn_taker.py"), str(children)]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}
    with subprocess.Popen(
        command, cwd=checkout, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        taker = _Taker(process, checkout)
        taker.read_line()
        yield taker


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versus", description="This checkout beside another.")
    parser.add_argument("other", type=Path, metavar="CHECKOUT")
    parser.add_argument("--only", nargs="+", choices=_NAMES, default=_NAMES, metavar="SHAPE", help=", ".join(_NAMES))
    parser.add_argument("--rounds", type=int, default=20, help="of each shape (%(default)s)")
    parser.add_argument("--children", type=int, default=4, help="of each side's one worker (%(default)s)")
    options = parser.parse_args()
    if options.rounds < 1 or options.children < 1:
        parser.error("--rounds and --children must be at least 1")
    if not (options.other / ".venv/bin/python").exists():
        parser.error(f"{options.other} has no virtual environment: run .ci/venv dev there")
    return options


def _rounds(takers: tuple[_Taker, _Taker], shape: str, count: int) -> list[tuple[_Measured, _Measured]]:
    found = []
    for number in range(_WARM_UP + count):
        first = number % 2
        measured = {turn: takers[turn].measure(shape) for turn in (first, 1 - first)}
        found.append((measured[0], measured[1]))
    return found[_WARM_UP:]


def _row(title: str, steps: int, found: list[tuple[_Measured, _Measured]]) -> list[str]:
    speeds = [median([steps / pair[turn].seconds for pair in found]) for turn in (0, 1)]
    cpu = [sum(pair[turn].cpu for pair in found) / len(found) / steps for turn in (0, 1)]
    ratio = median([theirs.seconds / ours.seconds for ours, theirs in found])
    return [
        title,
        *(f"{speed:.0f}" for speed in speeds),
        f"{ratio:.3f}",
        *(f"{milliseconds:.2f}" for milliseconds in cpu),
    ]


def main() -> int:
    """Measure and print. Returns the exit code."""
    options = _options()
    shapes = [shape for shape in SHAPES if shape.name in options.only]
    rows = []
    try:
        with ExitStack() as running:
            say("starting the servers and workers of both")
            here = running.enter_context(_taker(_HERE, options.children))
            there = running.enter_context(_taker(options.other.resolve(), options.children))
            for shape in shapes:
                rows.append(_row(shape.title, shape.steps, _rounds((here, there), shape.name, options.rounds)))
                say(f"{shape.title}: {rows[-1][3]} × the other's speed")
    except RuntimeError as error:
        print(f"The benchmark ended: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    header = ("shape", "here /s", "there /s", "ratio", "CPU ms here", "CPU ms there")
    note = (
        f"Steps a second, medians of {options.rounds} rounds in turns; ratio: median of the rounds' ratios. CPU: of a "
        f"step, all processes. Workers 1 × -c {options.children} on each side."
    )
    print(f"\n{Table('This checkout beside the other', header, rows, [note]).text()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
