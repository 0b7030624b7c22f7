"""Measures one checkout for `versus.py`: runs shapes on request.

It is started by its path with the other checkout's Python, so it imports that checkout's code. Its first output line
says that its workers are ready. Then it reads names of shapes from stdin, line by line, and answers each with the
seconds that the shape took. It uses little of the checkout's benchmark, so that old checkouts can be measured, too.
"""

import sys
from collections.abc import Iterable
from contextlib import closing, redirect_stdout
from typing import TextIO

from benchmarks.fleet import Layout
from benchmarks.flows import Flows
from benchmarks.ground import ground
from benchmarks.shapes import SHAPES, Side


def serve(asked: Iterable[str], answers: TextIO, layout: Layout) -> None:
    """Answer requests until the input ends."""
    with ground() as there, closing(Flows(there.owner_id, there.database_url)) as flows:
        shapes = {shape.name: shape for shape in SHAPES}
        side = Side.agentflow(there, flows, {shape.name: flows.store(shape.document()) for shape in SHAPES})
        with side.workers(there, layout, SHAPES):
            print("ready", file=answers, flush=True)
            for line in asked:
                print(side.measure(shapes[line.strip()]), file=answers, flush=True)


if __name__ == "__main__":
    answers = sys.stdout
    with redirect_stdout(sys.stderr):
        serve(sys.stdin, answers, Layout(1, int(sys.argv[1])))
