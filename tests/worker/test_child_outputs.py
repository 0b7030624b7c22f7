"""A child run gives its parent exactly its own lists, in order, once: whatever ends when, fails, and is tried again."""

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings, target
from hypothesis import strategies as st
from probes import Probe, Rows, Submit, Yields, owner_of
from steps import execute

from agentflow.blocks.base import BlockInput, BlockOutput, Context
from agentflow.engine.codec import loads
from agentflow.graph.catalogue import BlockKind
from agentflow.graph.model import AGENT_BLOCK
from agentflow.services import child_runs, graphs, steering
from agentflow.services import run_views as runs
from agentflow.services.cursors import PageRequest
from agentflow.services.transaction import carry_out, transaction
from agentflow.worker.finalise import finalise

pytestmark = pytest.mark.timeout(240, method="thread")

_QUEUED = (
    "SELECT e.run_id, e.node, e.idx, r.depth FROM node_executions e JOIN runs r ON r.id = e.run_id "
    "WHERE r.root_id = :run AND e.status = 'QUEUED' AND e.hold IS NULL ORDER BY r.depth, e.node, e.idx"
)
_OPEN = "SELECT id FROM runs WHERE root_id = :run AND ended_at IS NULL ORDER BY depth DESC"
_GIVEN = (
    "SELECT pin, value FROM outputs WHERE run_id = :run AND node = 0 AND idx = 1 AND part = 0 "
    "AND pin <> 'error' ORDER BY ordinal"
)
_OWN = (
    "SELECT o.pin, o.value, n.value FROM outputs o JOIN outputs n ON (n.run_id, n.node, n.idx, n.ordinal) = "
    "(o.run_id, o.node, o.idx, o.ordinal + 1) AND n.pin = 'name' WHERE o.run_id = :run AND o.pin = 'output' "
    "ORDER BY o.node, o.idx, o.ordinal"
)


class _NamedInput(BlockInput):
    name: str
    value: Any = None


class _NamedOutput(BlockOutput):
    output: Any
    name: str


class Trees:
    """Runs with a child run of many outputs, driven in this process in any order."""

    def __init__(self, probe: Probe, submit: Submit, rows: Rows) -> None:
        self._submit, self.rows = submit, rows
        self._failing: dict[Any, int] = {}
        submit()  # makes the owner
        self.owner = rows("SELECT owner_id FROM runs LIMIT 1")[0]
        self._each = probe(self._all)
        self._step = probe(self._passes)
        self._out = probe(self._gives, kind=BlockKind.OUTPUT, Input=_NamedInput, Output=_NamedOutput, lane="io")

    def _all(self, inputs: Any, context: Context) -> Yields:
        yield from (("value", number) for number in range(inputs.value))

    def _passes(self, inputs: Any, context: Context) -> Yields:
        self._fail(("step", inputs.value))
        yield "value", inputs.value

    def _gives(self, inputs: Any, context: Context) -> Yields:
        self._fail((inputs.name, inputs.value))
        yield "output", inputs.value
        yield "name", inputs.name

    def _fail(self, item: Any) -> None:
        if self._failing.get(item, 0) > 0:
            self._failing[item] -= 1
            raise RuntimeError("not yet")

    def start(
        self, count: int, direct: list[bool], failing: dict[Any, int], retried: int, names: str = "out{}"
    ) -> UUID:
        """A run of a graph whose child gives `count` values to each of its outputs, straight or by a step between."""
        self._failing = dict(failing)
        again = {"retry": {"max_failures": retried, "base": 0, "jitter": False, "on": ["block"]}}
        nodes: list[dict[str, Any]] = [
            {"id": "each", "block_id": self._each, "input_default": {"value": count}},
            {"id": "step", "block_id": self._step, "settings": again},
        ]
        links = [("each", "step")]
        for number, straight in enumerate(direct):
            name = f"out{number}"
            given = {"name": names.format(number)}
            nodes.append({"id": name, "block_id": self._out, "input_default": given, "settings": again})
            links.append(("each" if straight else "step", name))
        document = {
            "name": "child",
            "nodes": nodes,
            "links": [
                {"source_id": source, "source_name": "value", "sink_id": sink, "sink_name": "value"}
                for source, sink in links
            ],
        }
        with transaction() as session:
            graph_id = str(graphs.create(session, self.owner, document).id)
        sub = {"id": "sub", "block_id": AGENT_BLOCK, "input_default": {"graph_id": graph_id, "graph_version": 1}}
        return self._submit({"name": "root", "nodes": [sub], "links": []})

    def drive(self, run_id: UUID, chance: random.Random, late: float) -> None:
        """Execute what is ready, in any order, until the run has ended; the parent rarely, the more `late`."""
        while self.rows(_OPEN, run=run_id):
            while ready := self.rows(_QUEUED, run=run_id):
                chance.shuffle(ready)
                waits = [one for one in ready if one[3] > 0 or chance.random() >= late]
                for one in waits[: chance.randint(1, 40)] or ([] if len(ready) > 1 else ready):
                    execute(*one[:3])
            ended = [finalise(one) for one in self.rows(_OPEN, run=run_id)]
            assert any(ended) or self.rows(_QUEUED, run=run_id), "the run stands still"

    def child(self, run_id: UUID) -> UUID:
        (found,) = self.rows("SELECT id FROM runs WHERE parent_run_id = :run", run=run_id)
        return UUID(str(found))

    def given(self, run_id: UUID) -> dict[str, list[Any]]:
        """What the parent's node gave, by pin."""
        lists: dict[str, list[Any]] = {}
        for pin, value in self.rows(_GIVEN, run=run_id):
            lists.setdefault(pin, []).append(loads(value))
        return lists

    def own(self, run_id: UUID) -> dict[str, list[Any]]:
        """What the outputs of the child got, by name, in the order of their executions."""
        lists: dict[str, list[Any]] = {}
        for _, value, name in self.rows(_OWN, run=self.child(run_id)):
            lists.setdefault(loads(name), []).append(loads(value))
        return lists

    def shown(self, run_id: UUID, page: int, name: str | None = None) -> dict[str, list[Any]]:
        """What the pages of the child's outputs show, by name."""
        lists: dict[str, list[Any]] = {}
        after = None
        while True:
            with transaction() as session:
                found = runs.outputs(session, self.owner, self.child(run_id), name, PageRequest(after, page))
            for item in found.items:
                lists.setdefault(item.name, []).append(item.value)
            after = found.next_cursor
            if after is None:
                return lists

    def status(self, run_id: UUID) -> str:
        return str(self.rows("SELECT status FROM runs WHERE id = :run", run=run_id)[0])


@pytest.fixture
def trees(probe: Probe, submit: Submit, rows: Rows) -> Trees:
    return Trees(probe, submit, rows)


@pytest.fixture
def pages_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """`pages_of(values, bytes)` makes the pages so small."""

    def make(values: int, size: int) -> None:
        monkeypatch.setattr(child_runs, "MOST_OUTPUTS", values)
        monkeypatch.setattr(child_runs, "MOST_OUTPUT_BYTES", size)

    return make


_REAL = settings(
    deadline=None,
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@_REAL
@given(
    count=st.integers(0, 30),
    direct=st.lists(st.booleans(), min_size=1, max_size=3),
    failing=st.dictionaries(
        st.tuples(st.sampled_from(["step", "out0", "out1"]), st.integers(0, 29)), st.integers(1, 2), max_size=6
    ),
    page=st.integers(1, 7),
    size=st.integers(1, 20),
    late=st.sampled_from([0.0, 0.5, 0.95]),
    seed=st.integers(0, 2**32),
)
def test_a_parent_gets_exactly_the_lists_of_its_child_in_order_and_once(
    trees: Trees,
    pages_of: Callable[[int, int], None],
    count: int,
    direct: list[bool],
    failing: dict[Any, int],
    page: int,
    size: int,
    late: float,
    seed: int,
) -> None:
    pages_of(page, size)
    run_id = trees.start(count, direct, failing, retried=2)
    trees.drive(run_id, random.Random(seed), late)
    assert trees.status(run_id) == "COMPLETED"
    expected = {f"out{number}": list(range(count)) for number in range(len(direct))} if count else {}
    assert trees.own(run_id) == expected
    assert trees.given(run_id) == expected


@_REAL
@given(
    count=st.integers(1, 30),
    direct=st.lists(st.booleans(), min_size=1, max_size=3),
    failing=st.dictionaries(
        st.tuples(st.sampled_from(["step", "out0", "out1"]), st.integers(0, 29)), st.integers(1, 3), max_size=6
    ),
    page=st.integers(1, 7),
    late=st.sampled_from([0.0, 0.5, 0.95]),
    seed=st.integers(0, 2**32),
)
def test_what_failed_in_a_child_and_is_retried_by_hand_reaches_its_parent_late_but_once(
    trees: Trees,
    pages_of: Callable[[int, int], None],
    count: int,
    direct: list[bool],
    failing: dict[Any, int],
    page: int,
    late: float,
    seed: int,
) -> None:
    pages_of(page, 1000)
    chance = random.Random(seed)
    run_id = trees.start(count, direct, failing, retried=0)
    trees.drive(run_id, chance, late)
    retries = 0
    while trees.status(run_id) == "FAILED":
        carry_out(steering.retry(owner_of(trees.rows, run_id), run_id))
        retries += 1
        assert retries <= 6, "a value fails up to three times on its way, and three at its end"
        trees.drive(run_id, chance, late)
    target(retries)
    assert {name: sorted(values) for name, values in trees.given(run_id).items()} == {
        f"out{number}": list(range(count)) for number in range(len(direct))
    }
    for values in trees.given(run_id).values():
        falls = sum(later < earlier for earlier, later in pairwise(values))
        # With each retry comes what had failed at the output node itself, and then what reaches it only now.
        assert falls <= 2 * retries, "what came with one retry came in order"


@_REAL
@given(
    count=st.integers(1, 20),
    direct=st.lists(st.booleans(), min_size=2, max_size=3),
    names=st.sampled_from(["one", "out{}"]),
    page=st.integers(1, 7),
    late=st.sampled_from([0.0, 0.5, 0.95]),
    seed=st.integers(0, 2**32),
)
def test_a_run_shows_its_outputs_in_the_order_in_which_its_parent_gets_them(
    trees: Trees,
    pages_of: Callable[[int, int], None],
    count: int,
    direct: list[bool],
    names: str,
    page: int,
    late: float,
    seed: int,
) -> None:
    """Output nodes of one name: their values are one list, wherever it is read."""
    pages_of(page, 1000)
    run_id = trees.start(count, direct, {}, retried=0, names=names)
    trees.drive(run_id, random.Random(seed), late)
    given = trees.given(run_id)
    assert {name: len(values) for name, values in given.items()} == (
        {"one": count * len(direct)} if names == "one" else {f"out{number}": count for number in range(len(direct))}
    )
    assert trees.shown(run_id, page) == given
    for name, values in given.items():
        assert trees.shown(run_id, page, name) == {name: values}
    with transaction() as session:
        assert runs.get(session, trees.owner, trees.child(run_id)).outputs == given


def test_thousands_of_values_reach_a_parent_that_comes_late_page_by_page(trees: Trees) -> None:
    count = 1_300
    run_id = trees.start(count, [True, True], {}, retried=0)
    trees.drive(run_id, random.Random(11), late=1.0)
    assert trees.status(run_id) == "COMPLETED"
    assert trees.given(run_id) == {"out0": list(range(count)), "out1": list(range(count))}
    assert trees.rows("SELECT waited FROM node_executions WHERE run_id = :run", run=run_id)[0] >= 2
