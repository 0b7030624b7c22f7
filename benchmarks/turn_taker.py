"""Measures one checkout for `versus.py`: runs shapes on request.

It is started by its path with the other checkout's Python, so it imports that checkout's code. Its arguments are the
number of children, `--paid`, `--watched`, and settings (NAME=VALUE). Its first output line says that its workers are
ready. Then it reads names of shapes from stdin, line by line, and answers each with the seconds that the shape took. It
uses little of the checkout's benchmark, so that old checkouts can be measured, too.
"""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from agentflow.settings import settings
from benchmarks.fleet import Layout
from benchmarks.flows import Flows
from benchmarks.ground import Ground, ground
from benchmarks.shapes import SHAPES, Side

_PAID: Path = Path(__file__).with_name("paid")
_STEP, _PAID_STEP = "b1ab9b19-67a6-406d-abf5-2dba76d00c79", "be9c0000-0000-4000-8000-000000000001"
_CREDITS = 10**12


def _prepared(plain: Ground, paid: bool, given: Sequence[str]) -> Ground:
    """The servers, with these settings of all processes, and an owner who can pay."""
    more = dict(each.split("=", 1) for each in given)
    if paid:
        path = plain.environment.get("PYTHONPATH", "")
        more["PYTHONPATH"] = f"{path}{os.pathsep}{_PAID}"
        sys.path.append(str(_PAID))
    os.environ.update(more)
    settings.cache_clear()
    if more.get("AGENTFLOW_CREDITS") == "true":
        _give_credits(plain)
    return replace(plain, environment={**plain.environment, **more})


def _give_credits(there: Ground) -> None:
    from agentflow.credits import store  # older checkouts have none
    from agentflow.credits.tables import TransactionType
    from agentflow.services.transaction import transaction

    with transaction() as session:
        store.give(session, store.Gift(there.owner_id, TransactionType.GRANT, _CREDITS, "to spend", "benchmark"))


def _document(shape: Any, paid: bool) -> Any:
    text = json.dumps(shape.document())
    return json.loads(text.replace(_STEP, _PAID_STEP) if paid else text)


def serve(asked: Iterable[str], answers: TextIO, layout: Layout, options: Sequence[str]) -> None:
    """Answer requests until the input ends."""
    paid, watched = "--paid" in options, "--watched" in options
    with ground() as plain:
        there = _prepared(plain, paid, [option for option in options if "=" in option])
        _serve(asked, answers, layout, there, paid=paid, watched=watched)


def _watched(there: Ground) -> AbstractContextManager[None]:
    from benchmarks.live import watching  # older checkouts have none

    return watching(there)


def _serve(asked: Iterable[str], answers: TextIO, layout: Layout, there: Ground, *, paid: bool, watched: bool) -> None:
    with closing(Flows(there.owner_id, there.database_url)) as flows, _watched(there) if watched else nullcontext():
        shapes = {shape.name: shape for shape in SHAPES}
        side = Side.agentflow(there, flows, {shape.name: flows.store(_document(shape, paid)) for shape in SHAPES})
        with side.workers(there, layout, SHAPES):
            print("ready", file=answers, flush=True)
            for line in asked:
                print(side.measure(shapes[line.strip()]), file=answers, flush=True)


if __name__ == "__main__":
    answers = sys.stdout
    with redirect_stdout(sys.stderr):
        serve(sys.stdin, answers, Layout(1, int(sys.argv[1])), sys.argv[2:])
