"""Node executions in this process, as a worker child runs them, with blocks made up by the test."""

import json
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from installation import *  # noqa: F403
from sqlalchemy import text

from agentflow.blocks import registry
from agentflow.blocks.base import Block, BlockInput, BlockOutput
from agentflow.blocks.registry import Registry
from agentflow.services.transaction import transaction
from agentflow.worker.execute import interrupts


class _Input(BlockInput):
    value: Any = None


class _Output(BlockOutput):
    value: Any
    number: int


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`probe(run, **attributes)` makes a block with pins `value` and `number` whose `run` is that; gives its id."""
    made: list[type[Block]] = []

    def make(run: Callable[..., Any], **attributes: Any) -> str:
        name = f"Probe{len(made)}"
        body = {"id": str(uuid4()), "name": name, "Input": _Input, "Output": _Output, **attributes}
        made.append(type(name, (Block,), {**body, "run": lambda _, inputs, context: run(inputs, context)}))
        known = Registry([*ours, *made])
        monkeypatch.setattr(registry, "_registry", lambda: known)
        return str(body["id"])

    ours = registry.every()
    return make


@pytest.fixture
def chain(submit: Callable[..., UUID]) -> Callable[..., UUID]:
    """`chain(*block ids, pin="value", settings={})` runs these blocks one after the other: nodes n0, n1, …"""

    def start(*blocks: str, pin: str = "value", settings: dict[str, Any] | None = None, **default: Any) -> UUID:
        nodes: list[dict[str, Any]] = [
            {"id": f"n{number}", "block_id": block, "input_default": {}} for number, block in enumerate(blocks)
        ]
        nodes[0] |= {"settings": settings or {}, "input_default": default}
        links = [
            {"source_id": f"n{number}", "source_name": pin, "sink_id": f"n{number + 1}", "sink_name": "value"}
            for number in range(len(blocks) - 1)
        ]
        return submit({"name": "chain", "nodes": nodes, "links": links})

    return start


Rows = Callable[..., Sequence[Any]]


@pytest.fixture
def rows(environment: Any) -> Rows:
    """`rows(statement, run=…)`: what the database says, as tuples (or values, where there is one column)."""

    def ask(statement: str, **values: Any) -> list[Any]:
        with transaction() as session:
            found = [tuple(row) for row in session.execute(text(statement), values)]
        return [row[0] if len(row) == 1 else row for row in found]

    return ask


@pytest.fixture
def statuses(rows: Rows) -> Callable[[UUID], dict[str, str]]:
    """Where the node executions of a run stand: `{"0/1": "COMPLETED"}`, with the reason behind, where there is one."""

    def ask(run_id: UUID) -> dict[str, str]:
        found = rows(
            "SELECT node || '/' || idx, status || coalesce(' ' || reason, '') FROM node_executions WHERE run_id = :run "
            "ORDER BY node, idx",
            run=run_id,
        )
        return dict(found)

    return ask


@pytest.fixture
def outputs(rows: Rows) -> Callable[..., list[Any]]:
    """What a node of a run yielded, in order: (pin, value)."""

    def ask(run_id: UUID, node: int = 0) -> list[Any]:
        found = rows(
            "SELECT pin, value FROM outputs WHERE run_id = :run AND node = :node ORDER BY idx, ordinal, part",
            run=run_id,
            node=node,
        )
        return [(pin, json.loads(value)) for pin, value in found]

    return ask


@pytest.fixture
def signals() -> Iterator[None]:
    """This process takes the signals that stop blocks, for the test."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGALRM, signal.SIGUSR2)]
    interrupts.cache_clear()
    interrupts().install()
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before:
        signal.signal(number, handler)
    interrupts.cache_clear()
