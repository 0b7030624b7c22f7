"""A reader of a child run's outputs misses none and gets none twice, wherever its pages are cut."""

from collections.abc import Callable, Mapping
from random import Random
from uuid import UUID

import pytest
from driver import Driver
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plans import plan_of
from sqlalchemy.orm import Session

from agentflow.engine.settlement import COMPLETED, Transition
from agentflow.graph.plan import Plan
from agentflow.storage.runs import Parent
from agentflow.storage.views.children import Taken, find, get, node_outputs, outputs

Sessions = Callable[[], Session]
MOST_BYTES = 10**6


class Reader:
    """Reads on and on, in pages."""

    def __init__(self, session_of: Sessions, run_id: UUID, most: int, most_bytes: int = MOST_BYTES) -> None:
        self._session_of, self._run_id, self._most, self._most_bytes = session_of, run_id, most, most_bytes
        self.taken: Mapping[int, Taken] = {}
        self.lines: list[tuple[int, str]] = []
        self.pages: list[int] = []

    def read(self, *, ended: bool = False) -> None:
        """Everything that there is now."""
        more = True
        while more:
            with self._session_of() as session:
                found = outputs(
                    session,
                    self._run_id,
                    [1, 2],
                    self.taken,
                    ended=ended,
                    most=self._most,
                    most_bytes=self._most_bytes,
                )
            self.taken, more = found.taken, found.more
            self.lines += [(line.node, line.value) for line in found.lines]
            self.pages.append(len(found.lines))


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 10**9), executions=st.integers(1, 5), most=st.integers(1, 6))
def test_each_output_is_read_once_in_the_order_of_its_node_whenever_it_is_looked_for(
    drive: Callable[[Plan], Driver], session_of: Sessions, seed: int, executions: int, most: int
) -> None:
    random = Random(seed)
    driver = drive(plan_of((0, "x", 1, "a"), (0, "x", 2, "a"), nodes=3))
    driver.run(0, 1, *(("x", number) for number in range(executions)))
    reader = Reader(session_of, driver.run_id, most)
    keys = [(node, idx) for node in (1, 2) for idx in range(1, executions + 1)]
    counts = {key: random.randrange(4) for key in keys}
    closed = set()
    for node, idx in random.sample(keys, len(keys)):
        change = random.choice((COMPLETED, COMPLETED, Transition.failed("block", "broken")))
        given_now = [("output", f"{node}.{idx}.{number}") for number in range(counts[node, idx])]
        driver.run(node, idx, *given_now, change=change)
        closed.add((node, idx))
        if random.random() < 0.5:
            reader.read()
            for sink in (1, 2):
                first_open = next((i for i in range(1, executions + 1) if (sink, i) not in closed), executions + 1)
                assert of_node(reader, sink) == expected(counts, sink, first_open)
    reader.read(ended=True)
    for sink in (1, 2):
        assert of_node(reader, sink) == expected(counts, sink, executions + 1)
    assert all(size <= max(most, *counts.values()) for size in reader.pages)


def of_node(reader: Reader, sink: int) -> list[str]:
    return [value for node, value in reader.lines if node == sink]


def expected(counts: Mapping[tuple[int, int], int], sink: int, end: int) -> list[str]:
    """The values of the executions below `end`, as JSON text."""
    return [f'"{sink}.{idx}.{number}"' for idx in range(1, end) for number in range(counts[sink, idx])]


@pytest.mark.parametrize(("most_bytes", "pages"), [(0, [1, 1, 1]), (6, [2, 1]), (9, [3])])
def test_a_page_ends_before_it_has_too_many_bytes_but_holds_one_execution(
    drive: Callable[[Plan], Driver], session_of: Sessions, most_bytes: int, pages: list[int]
) -> None:
    driver = drive(plan_of((0, "x", 1, "a"), nodes=3))
    driver.run(0, 1, *(("x", number) for number in range(3)))
    for idx in (1, 2, 3):
        driver.run(1, idx, ("output", "a"))
    reader = Reader(session_of, driver.run_id, 100, most_bytes)
    reader.read()
    assert reader.pages == pages


def test_a_child_is_found_by_its_node_execution_and_call(start, session_of: Sessions) -> None:
    plan = plan_of(nodes=1)
    parent, _ = start(plan)
    child, _ = start(plan, parent=Parent(parent, 0, 1, "a"))
    with session_of() as session:
        found = find(session, Parent(parent, 0, 1, "a"))
        assert found is not None
        assert found == get(session, child)
        assert (found.id, found.graph_id, found.ended) == (child, plan.graph_id, False)
        assert find(session, Parent(parent, 0, 1, "b")) is None
        assert find(session, Parent(parent, 0, 2, "a")) is None


def test_a_node_alone_gives_what_its_first_execution_yielded_in_order(
    drive: Callable[[Plan], Driver], session_of: Sessions
) -> None:
    driver = drive(plan_of((0, "x", 1, "a"), nodes=2))
    driver.run(0, 1, ("x", 1), ("y", 2), ("x", 3))
    with session_of() as session:
        assert node_outputs(session, driver.run_id, 0) == [("x", "1"), ("y", "2"), ("x", "3")]
        assert node_outputs(session, driver.run_id, 1) == []
