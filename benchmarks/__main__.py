"""Runs the benchmark from the command line: selects the parts and rounds, and writes the results."""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from agentflow.errors import AgentFlowError
from benchmarks import cpu, fan_in, growth, hops, live, no_ops, shapes
from benchmarks.ground import Ground, ground
from benchmarks.report import Part, machine, say

_SHAPES: Final = tuple(shape.name for shape in shapes.SHAPES)
_PARTS: Final = (*_SHAPES, "cpu", "noops", "hops", "fan-in", "growth")
_ON_REQUEST: Final = ("live",)  # not beside canvas, which has nothing like it
_LATEST: Final = Path(__file__).resolve().parent / "results" / "latest.json"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="AgentFlow beside plain Celery.")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=(*_PARTS, *_ON_REQUEST),
        default=_PARTS,
        metavar="PART",
        help=", ".join((*_PARTS, *_ON_REQUEST)),
    )
    parser.add_argument("--rounds", type=int, help="paired rounds of each shape (5; quick: 2)")
    parser.add_argument("--quick", action="store_true", help="no calibration, fewer rounds, smaller tables")
    parser.add_argument("--json", type=Path, default=_LATEST, metavar="FILE", help="results as data (%(default)s)")
    parser.add_argument("--page", type=Path, metavar="FILE", help="the tables too, as a page of Markdown")
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = 2 if options.quick else 5
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def _measure(there: Ground, options: argparse.Namespace) -> list[Part]:
    wanted = set(options.only)
    parts = []
    if names := [name for name in _SHAPES if name in wanted]:
        parts.append(shapes.measure(there, names, options.rounds, quick=options.quick))
    if "cpu" in wanted:
        chosen = [shape for shape in shapes.SHAPES if shape.name in names or not names]
        parts.append(cpu.measure(there, chosen, quick=options.quick))
    if "noops" in wanted:
        parts.append(no_ops.measure(there, quick=options.quick))
    if "hops" in wanted:
        parts.append(hops.measure(there))
    if "fan-in" in wanted:
        parts.append(fan_in.measure(there, quick=options.quick))
    if "growth" in wanted:
        parts.append(growth.measure(there, quick=options.quick))
    if "live" in wanted:
        parts.append(live.measure(there, quick=options.quick))
    return parts


def _page(parts: list[Part], where: dict[str, Any]) -> str:
    machine_line = (
        f"{where['system']}, {where['cores']} cores, Python {where['python']}; load at the start {where['load']}"
    )
    return "\n\n".join([machine_line, *(table.text() for part in parts for table in part.tables)]) + "\n"


def main() -> int:
    """Measure, print, write. Returns the exit code."""
    options = _options()
    where = machine()
    try:
        say("starting PostgreSQL and Valkey in a temporary directory")
        with ground() as there:
            parts = _measure(there, options)
    except (AgentFlowError, RuntimeError) as error:
        print(f"The benchmark ended: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    page = _page(parts, where)
    print(f"\n{page}")
    results = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": where, "quick": options.quick}
    results |= {part.name: part.data for part in parts}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=1) + "\n")
    say(f"written to {options.json}")
    if options.page:
        options.page.write_text(f"# Measured on {datetime.now(UTC):%Y-%m-%d}\n\n{page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
