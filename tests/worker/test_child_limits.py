"""Limits of a sub-graph node are limits of its child runs: how many there are at once, and how many start a second."""

import random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from installation import INPUT, OUTPUT
from probes import Probe, Rows, Submit, Yields, owner_of
from steps import execute

from agentflow.blocks.base import Context
from agentflow.engine.codec import loads
from agentflow.graph.model import AGENT_BLOCK
from agentflow.services import graphs, steering
from agentflow.services.cancellation import cancel
from agentflow.services.transaction import carry_out, transaction
from agentflow.worker.finalise import finalise
from agentflow.worker.process import process
from agentflow.worker.upkeep import Upkeep

pytestmark = pytest.mark.timeout(240, method="thread")

_READY = (
    "SELECT run_id, node, idx FROM node_executions WHERE status = 'QUEUED' AND hold IS NULL "
    "AND (due_at IS NULL OR due_at <= agentflow_now()) ORDER BY run_id, node, idx"
)
_OPEN = "SELECT id FROM runs WHERE ended_at IS NULL ORDER BY depth DESC, id"
_AT_ONCE = "SELECT count(*) FROM runs WHERE parent_run_id IS NOT NULL AND ended_at IS NULL GROUP BY depth"
_WORD = {"input_schema": {"properties": {"word": {}}}, "output_schema": {"properties": {"said": {}}}}


def link(source: str, source_name: str, sink: str, sink_name: str) -> dict[str, Any]:
    return {"source_id": source, "source_name": source_name, "sink_id": sink, "sink_name": sink_name}


class Nest:
    """A graph that runs a graph for each value, which runs another, … whose innermost node may fail at first."""

    def __init__(self, probe: Probe, submit: Submit, rows: Rows) -> None:
        self._submit, self.rows = submit, rows
        self.failing: set[Any] = set()
        submit()  # makes the owner
        self._drain([])
        (self._owner,) = rows("SELECT owner_id FROM runs LIMIT 1")
        self._each, self._leaf = probe(self._all), probe(self._passes)

    def _all(self, inputs: Any, context: Context) -> Yields:
        yield from (("value", number) for number in range(inputs.value))

    def _passes(self, inputs: Any, context: Context) -> Yields:
        if inputs.value in self.failing:
            self.failing.discard(inputs.value)
            raise RuntimeError("not yet")
        yield "value", inputs.value

    def start(self, levels: int, count: int, own: dict[str, Any], leaf: dict[str, Any]) -> UUID:
        """A run that starts a tree of `levels` levels for each of `count` values."""
        inner = {"id": "x", "block_id": self._leaf, "settings": leaf}
        ends = ("value", "value")
        for _ in range(levels):
            document = {
                "name": "child",
                "nodes": [
                    {"id": "in", "block_id": INPUT, "input_default": {"name": "word"}},
                    inner,
                    {"id": "out", "block_id": OUTPUT, "input_default": {"name": "said"}},
                ],
                "links": [link("in", "result", "x", ends[0]), link("x", ends[1], "out", "value")],
            }
            with transaction() as session:
                graph_id = str(graphs.create(session, self._owner, document).id)
            given = {"graph_id": graph_id, "graph_version": 1, **_WORD}
            inner = {"id": "x", "block_id": AGENT_BLOCK, "input_default": given, "settings": own}
            ends = ("word", "said")
        each = {"id": "each", "block_id": self._each, "input_default": {"value": count}}
        out = {"id": "out", "block_id": OUTPUT, "input_default": {"name": "said"}}
        links = [link("each", "value", "x", "word"), link("x", "said", "out", "value")]
        return self._submit({"name": "root", "nodes": [each, inner, out], "links": links})

    def step(self, chance: random.Random) -> bool:
        """One node execution, or the ends of runs, or what recovery sees to; whether anything is open."""
        if ready := self.rows(_READY):
            execute(*chance.choice(ready))
            return True
        ended = [finalise(one) for one in self.rows(_OPEN)]
        if not any(ended) and not self.rows(_READY):
            Upkeep(process()).run_pass()
            assert self.rows(_READY) or not self.rows(_OPEN), "everything stands still"
        return bool(self.rows(_OPEN))

    def _drain(self, seen: list[int]) -> None:
        while self.step(random.Random(0)):
            seen += self.rows(_AT_ONCE)

    def drive(self, chance: random.Random) -> int:
        """Go on to the end; the most child runs of one level that there were at once."""
        most = 0
        while self.step(chance):
            most = max([most, *self.rows(_AT_ONCE)])
        return most

    def said(self, run_id: UUID) -> list[Any]:
        query = "SELECT value FROM outputs WHERE run_id = :run AND node = 2 AND pin = 'output' ORDER BY idx"
        return [loads(value) for value in self.rows(query, run=run_id)]

    def status(self, run_id: UUID) -> str:
        return str(self.rows("SELECT status FROM runs WHERE id = :run", run=run_id)[0])


@pytest.fixture
def nest(probe: Probe, submit: Submit, rows: Rows) -> Nest:
    return Nest(probe, submit, rows)


LIMIT = {"concurrency": {"key": "k", "limit": 1}}


@settings(
    deadline=None,
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    levels=st.integers(1, 3),
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=2),
    limit=st.integers(1, 3),
    failing=st.sets(st.integers(0, 3), max_size=2),
    leaf_too=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_no_more_child_runs_at_once_than_the_limit_says_and_all_end(
    nest: Nest, levels: int, counts: list[int], limit: int, failing: set[int], leaf_too: bool, seed: int
) -> None:
    own = {
        "concurrency": {"key": "k", "limit": limit},
        "retry": {"max_failures": 3, "base": 0, "jitter": False, "on": ["block"]},
    }
    leaf = {"concurrency": {"key": "k", "limit": 1}} if leaf_too else {}
    nest.failing = set(failing)
    roots = [nest.start(levels, count, own, leaf) for count in counts]
    assert nest.drive(random.Random(seed)) <= limit
    for run_id, count in zip(roots, counts, strict=True):
        assert (nest.status(run_id), nest.said(run_id)) == ("COMPLETED", list(range(count)))
    assert nest.rows("SELECT count(*) FROM limit_slots") == [0]
    assert nest.rows("SELECT count(*) FROM limit_queue") == [0]


def test_a_sub_graph_node_keeps_its_place_while_its_run_is_paused_and_gives_it_back_when_it_is_cancelled(
    nest: Nest, rows: Rows
) -> None:
    held = "SELECT count(*) FROM node_executions WHERE hold = 'limit'"
    first, second = nest.start(1, 1, LIMIT, {}), nest.start(1, 1, LIMIT, {})
    for run_id in (first, second):
        execute(run_id, 0, 1)
        execute(run_id, 1, 1)
    assert rows(held) == [1], "the second waits for the child run of the first"
    owner = owner_of(rows, first)
    carry_out(steering.pause(owner, first))
    rows("UPDATE limit_slots SET since = since - interval '1 minute' RETURNING 1")
    Upkeep(process()).run_pass()
    assert rows(held) == [1], "its child run is there, and goes on with it"
    with transaction() as session:
        cancel(session, owner, first, "enough")
    Upkeep(process()).run_pass()
    assert rows(held) == [0]
    nest.drive(random.Random(1))
    assert (nest.status(first), nest.status(second)) == ("CANCELLED", "COMPLETED")


def test_a_rate_of_a_sub_graph_node_is_of_starts_and_does_not_keep_outputs_waiting(nest: Nest, rows: Rows) -> None:
    run_id = nest.start(1, 2, {"rate_limit": {"key": "k", "per_second": 0.001}}, {})
    execute(run_id, 0, 1)
    execute(run_id, 1, 1)
    execute(run_id, 1, 2)
    assert rows("SELECT idx, hold FROM node_executions WHERE run_id = :run AND node = 1 ORDER BY idx", run=run_id) == [
        (1, "waiting"),
        (2, "rate"),
    ]
    (child,) = rows("SELECT id FROM runs WHERE parent_run_id = :run", run=run_id)
    while ready := [one for one in rows(_READY) if one[0] == child]:
        execute(*ready[0])
    finalise(child)
    execute(run_id, 1, 1)
    assert rows("SELECT status FROM node_executions WHERE run_id = :run AND node = 1 AND idx = 1", run=run_id) == [
        "COMPLETED"
    ]


def test_a_child_run_has_the_priority_of_its_node(nest: Nest, rows: Rows) -> None:
    run_id = nest.start(2, 1, {"priority": 8}, {})
    nest.drive(random.Random(2))
    assert nest.status(run_id) == "COMPLETED"
    assert rows("SELECT priority FROM runs WHERE root_id = :run ORDER BY depth", run=run_id) == [5, 8, 8]
