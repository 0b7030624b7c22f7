"""Node executions are listed in pages, each once, and values beyond the budget come as size and beginning."""

from collections.abc import Callable
from itertools import accumulate
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plans import plan_of
from sqlalchemy import insert
from sqlalchemy.orm import Session

from agentflow.clock import now
from agentflow.engine.routing import ERROR_ORDINALS
from agentflow.ids import new_id
from agentflow.storage.runs import Parent
from agentflow.storage.tables import NodeExecution, Output
from agentflow.storage.views.node_executions import (
    PREVIEW,
    Budget,
    Key,
    Source,
    child_runs,
    delivered,
    outputs,
    page,
    run_outputs,
)

Sessions = Callable[[], Session]
EVERYTHING = Budget(10**6, 10**9, 10**6)
ON_ONE_DATABASE = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

keys = st.sets(st.builds(Key, st.integers(0, 4), st.integers(1, 8)), min_size=1)


def store(session: Session, run_id: UUID, values: list[str], node: int = 0, idx: int = 1, pin: str = "output") -> None:
    """The outputs of a node execution."""
    rows = [
        {"run_id": run_id, "node": node, "idx": idx, "ordinal": ordinal, "part": 0, "pin": pin, "value": value}
        for ordinal, value in enumerate(values)
    ]
    if rows:
        session.execute(insert(Output), rows)


@ON_ONE_DATABASE
@given(present=keys, limit=st.integers(1, 7), node=st.none() | st.integers(0, 4), idx=st.none() | st.integers(1, 8))
def test_pages_of_any_size_give_each_that_is_asked_for_once_in_order(
    session_of: Sessions, present: set[Key], limit: int, node: int | None, idx: int | None
) -> None:
    run_id, found = new_id(), []
    with session_of() as session:
        row = {"run_id": run_id, "status": "INCOMPLETE", "open": False, "have": 0, "need": 1, "check_at": now()}
        session.execute(insert(NodeExecution), [{**row, "node": key.node, "idx": key.idx} for key in present])
        after: Key | None = None
        while rows := page(session, run_id, node=node, idx=idx, status="INCOMPLETE", after=after, limit=limit):
            assert len(rows) <= limit
            found += [Key(row.node, row.idx) for row in rows]
            after = found[-1]
        assert page(session, run_id, node=None, idx=None, status="QUEUED", after=None, limit=limit) == []
    assert found == sorted(key for key in present if node in (None, key.node) and idx in (None, key.idx))


@ON_ONE_DATABASE
@given(
    values=st.lists(st.text("aä€", max_size=300), max_size=12),
    each=st.integers(0, 400),
    total=st.integers(0, 1500),
    most=st.integers(0, 12),
)
def test_a_value_is_read_whole_while_it_and_all_before_it_fit(
    session_of: Sessions, values: list[str], each: int, total: int, most: int
) -> None:
    run_id = new_id()
    with session_of() as session:
        store(session, run_id, values)
        found = outputs(session, run_id, [Key(0, 1)], Budget(each, total, most)).get(Key(0, 1), [])
    sizes = [len(value.encode()) for value in values[:most]]
    used = list(accumulate(min(size, each) for size in sizes))
    assert [value.size for _, value in found] == sizes
    for value, size, sum_, (_, shown) in zip(values, sizes, used, found, strict=False):
        fits = size <= each and sum_ <= total
        assert (shown.text, shown.preview) == ((value, "") if fits else (None, value[:PREVIEW]))


def test_the_engines_message_is_read_however_few_outputs_are(session_of: Sessions) -> None:
    run_id = new_id()
    with session_of() as session:
        store(session, run_id, ["1", "2"])
        message = Output(run_id=run_id, node=0, idx=1, ordinal=ERROR_ORDINALS + 1, part=0, pin="error", value='"no"')
        session.add(message)
        session.flush()
        found = outputs(session, run_id, [Key(0, 1)], Budget(100, 100, 1))[Key(0, 1)]
    assert [(pin, value.text) for pin, value in found] == [("output", "1"), ("error", '"no"')]


@ON_ONE_DATABASE
@given(given_by=st.dictionaries(keys.map(min), st.integers(0, 4), min_size=1), limit=st.integers(1, 6))
def test_a_runs_outputs_come_in_pages_of_any_size_each_once_in_order(
    session_of: Sessions, given_by: dict[Key, int], limit: int
) -> None:
    run_id, found = new_id(), []
    with session_of() as session:
        for key, count in given_by.items():
            store(session, run_id, [f"{number}" for number in range(count)], *key)
        after = None
        while lines := run_outputs(session, run_id, range(4), name=None, after=after, limit=limit, budget=EVERYTHING):
            assert len(lines) <= limit
            found += [(line.node, line.idx, line.ordinal) for line in lines]
            after = found[-1]
    assert found == sorted((*key, number) for key, count in given_by.items() if key.node < 4 for number in range(count))


@pytest.mark.parametrize(("name", "numbers"), [('"odd"', [1, 3]), ('"even"', [2]), ('"none"', [])])
def test_an_output_is_found_by_the_name_that_came_right_after_it(
    session_of: Sessions, name: str, numbers: list[int]
) -> None:
    run_id = new_id()
    with session_of() as session:
        for idx in (1, 2, 3):
            named = '"odd"' if idx % 2 else '"even"'
            row = {"run_id": run_id, "node": 0, "idx": idx, "part": 0}
            session.execute(
                insert(Output),
                [
                    {**row, "ordinal": 0, "pin": "output", "value": str(idx)},
                    {**row, "ordinal": 1, "pin": "name", "value": named},
                ],
            )
        lines = run_outputs(session, run_id, [0], name=(name, []), after=None, limit=10, budget=EVERYTHING)
    assert [(line.idx, line.name) for line in lines] == [(number, name) for number in numbers]


def test_what_was_delivered_is_told_with_its_source(drive, session_of: Sessions) -> None:
    driver = drive(plan_of((0, "x", 1, "a"), (0, "y", 1, "b"), nodes=2))
    driver.run(0, 1, ("x", 1), ("y", 2), ("x", 3))
    with session_of() as session:
        pins = [(1, "a", 1), (1, "b", 1), (1, "a", 2), (1, "b", 2)]
        found = delivered(session, driver.run_id, pins, EVERYTHING)
        assert delivered(session, driver.run_id, [], EVERYTHING) == {}
    told = {key: {pin: (source, value.text) for pin, (source, value) in of.items()} for key, of in found.items()}
    first = {"a": (Source(0, "x"), "1"), "b": (Source(0, "y"), "2")}
    assert told == {Key(1, 1): first, Key(1, 2): {"a": (Source(0, "x"), "3")}}


def test_child_runs_are_told_by_their_node_execution_the_oldest_first(start, session_of: Sessions) -> None:
    plan = plan_of(nodes=2)
    parent, _ = start(plan)
    made = [start(plan, parent=Parent(parent, node, 1, call))[0] for node, call in ((1, ""), (0, "a"), (0, "b"))]
    with session_of() as session:
        found = child_runs(session, parent, [Key(0, 1), Key(1, 1), Key(1, 2)])
        assert child_runs(session, parent, [Key(1, 1)]) == {Key(1, 1): made[:1]}
    assert found == {Key(0, 1): made[1:], Key(1, 1): made[:1]}
