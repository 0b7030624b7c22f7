"""Compares the speed of this checkout with another one, in alternating rounds with the servers and workers of both up.

    python -m benchmarks.versus ../other --starts 10 --rounds 10

    python -m benchmarks.versus . --paid --with AGENTFLOW_CREDITS=true

compares this checkout with itself under other settings: here each step costs a credit, which only the other side takes.

    python -m benchmarks.versus . --watched

has, on this side only, a live process and a client that watches every run.

The other checkout (such as an older commit) needs its own virtual environment `.venv`, made by `.ci/venv dev`.
Processes of the same code differ by up to 5 % in speed from one start to the next, and rounds do not average that out.
So everything is started several times, each checkout first in turn, and the standard error comes from these starts.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.cpu import of_tree
from benchmarks.report import Table, median, say
from benchmarks.shapes import SHAPES, Shape

_HERE: Final = Path(__file__).resolve().parent.parent
_NAMES: Final = tuple(shape.name for shape in SHAPES)
_WARM_UP: Final = 2  # rounds that are not counted


class _Measured(NamedTuple):
    seconds: float
    cpu: float  # milliseconds, of all processes


_Rounds = list[tuple[_Measured, _Measured]]  # of this checkout and of the other


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
def _taker(
    checkout: Path, options: argparse.Namespace, settings: Sequence[str], *, watched: bool = False
) -> Iterator[_Taker]:
    command: list[str | Path] = [checkout / ".venv/bin/python", Path(__file__).with_name("turn_taker.py")]
    command.append(str(options.children))
    command += [*(["--paid"] if options.paid else []), *(["--watched"] if watched else []), *settings]
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
    parser.add_argument("--starts", type=int, default=4, help="of the servers and workers of both (%(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help="of each shape after each start (%(default)s)")
    parser.add_argument("--children", type=int, default=4, help="of each side's one worker (%(default)s)")
    parser.add_argument("--paid", action="store_true", help="each step costs its owner a credit, where credits are on")
    parser.add_argument("--watched", action="store_true", help="on this side somebody watches all runs, live")
    parser.add_argument(
        "--with", nargs="+", default=[], metavar="NAME=VALUE", dest="settings", help="of the other side"
    )
    options = parser.parse_args()
    if any(not each.startswith("AGENTFLOW_") or "=" not in each for each in options.settings):
        parser.error("--with takes settings: AGENTFLOW_CREDITS=true")
    if min(options.starts, options.rounds, options.children) < 1:
        parser.error("--starts, --rounds and --children must be at least 1")
    if not (options.other / ".venv/bin/python").exists():
        parser.error(f"{options.other} has no virtual environment: run .ci/venv dev there")
    return options


def _rounds(takers: tuple[_Taker, _Taker], shape: str, count: int) -> _Rounds:
    found = []
    for number in range(_WARM_UP + count):
        first = number % 2
        measured = {turn: takers[turn].measure(shape) for turn in (first, 1 - first)}
        found.append((measured[0], measured[1]))
    return found[_WARM_UP:]


def _measure(options: argparse.Namespace, shapes: Sequence[Shape]) -> dict[str, list[_Rounds]]:
    """Shape → the rounds of each start."""
    found: dict[str, list[_Rounds]] = {shape.name: [] for shape in shapes}
    for start in range(options.starts):
        say(f"starting the servers and workers of both ({start + 1} of {options.starts})")
        checkouts = (_HERE, options.other.resolve())
        with ExitStack() as running:
            first = start % 2
            started = {
                turn: running.enter_context(
                    _taker(checkouts[turn], options, options.settings)
                    if turn
                    else _taker(checkouts[turn], options, [], watched=options.watched)
                )
                for turn in (first, 1 - first)
            }
            for shape in shapes:
                found[shape.name].append(_rounds((started[0], started[1]), shape.name, options.rounds))
                say(f"{shape.title}: {_ratio(found[shape.name][-1]):.3f} × the other's speed")
    return found


def _ratio(rounds: _Rounds) -> float:
    return median([theirs.seconds / ours.seconds for ours, theirs in rounds])


def _row(shape: Shape, starts: Sequence[_Rounds]) -> list[str]:
    pairs = [pair for rounds in starts for pair in rounds]
    speeds = [median([shape.steps / pair[turn].seconds for pair in pairs]) for turn in (0, 1)]
    cpu = [sum(pair[turn].cpu for pair in pairs) / len(pairs) / shape.steps for turn in (0, 1)]
    logs = [math.log(_ratio(rounds)) for rounds in starts]
    error = f" ± {statistics.stdev(logs) / len(logs) ** 0.5:.3f}" if len(logs) > 1 else ""
    return [
        shape.title,
        *(f"{speed:.0f}" for speed in speeds),
        f"{math.exp(statistics.fmean(logs)):.3f}{error}",
        *(f"{milliseconds:.2f}" for milliseconds in cpu),
        f"{cpu[1] / cpu[0]:.3f}",
    ]


def main() -> int:
    """Measure and print. Returns the exit code."""
    options = _options()
    shapes = [shape for shape in SHAPES if shape.name in options.only]
    try:
        found = _measure(options, shapes)
    except RuntimeError as error:
        print(f"The benchmark ended: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    header = ("shape", "here /s", "there /s", "ratio", "CPU ms here", "CPU ms there", "CPU ratio")
    note = (
        f"Steps a second, medians of {options.starts} × {options.rounds} rounds in turns; ratio: geometric mean of the "
        f"starts' medians, ± its standard error. CPU: of a step, all processes. "
        f"Workers 1 × -c {options.children} on each side."
    )
    rows = [_row(shape, found[shape.name]) for shape in shapes]
    print(f"\n{Table('This checkout beside the other', header, rows, [note]).text()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
