"""Events are read in pages, each once and in order, and values that are too long are left out of them."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from driver import Driver
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from many_runs import copies, rows_read
from plans import plan_of
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.orm import Session

from agentflow.engine.settlement import Transition
from agentflow.graph.plan import Plan
from agentflow.ids import new_id
from agentflow.storage.tables import Event, Output, Run
from agentflow.storage.views.events import (
    AnyRow,
    EventValue,
    Place,
    Position,
    RunsOf,
    Span,
    after,
    after_by_gate,
    after_in_runs,
    standing,
    values,
)

Sessions = Callable[[], Session]
ON_ONE_DATABASE = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _after_one(session: Session, place: Place, limit: int) -> list[AnyRow]:
    return after(session, [place], limit)[0]


@ON_ONE_DATABASE
@given(transactions=st.lists(st.integers(1, 5), min_size=1, max_size=5), limit=st.integers(1, 6))
def test_pages_of_any_size_give_each_event_once_in_order(
    session_of: Sessions, transactions: list[int], limit: int
) -> None:
    run_id = new_id()
    written = 0
    for count in transactions:
        with session_of() as session, session.begin():
            rows = [{"run_id": run_id, "kind": "run", "first": written + number} for number in range(count)]
            session.execute(insert(Event), rows)
            written += count
    for read in (_after_one, after_by_gate):
        position, found = Position(), []
        with session_of() as session:
            while rows := read(session, Place(run_id, position), limit):
                assert len(rows) <= limit
                assert standing(session, [Place(run_id, position)])[0].more
                found += [row.first for row in rows]
                position = Position(rows[-1].transaction, rows[-1].id)
            assert not standing(session, [Place(run_id, position)])[0].more
        assert found == list(range(written))


def test_an_event_of_a_failure_has_its_message_and_no_other_event_has(drive, session_of: Sessions) -> None:
    driver = drive(plan_of((0, "x", 1, "a"), nodes=2))
    driver.run(0, 1, ("x", 1))
    driver.run(1, 1, change=Transition.failed("block", "broken"))
    with session_of() as session:
        found = _after_one(session, Place(driver.run_id, Position()), 100)
    told = [(row.node, row.error) for row in found if row.kind == "settled"]
    assert told == [(0, None), (1, "broken")]


@pytest.mark.parametrize("one_graph", [False, True])
def test_of_an_owners_runs_only_those_are_looked_at_that_may_have_something_new(
    drive: Callable[[Plan], Driver], session_of: Sessions, one_graph: bool
) -> None:
    plan = plan_of((0, "x", 1, "a"), nodes=2)
    run_id = drive(plan).run_id
    with session_of() as session:
        owner_id, now = session.execute(select(Run.owner_id, func.now()).where(Run.id == run_id)).one()
        copies(session, run_id, 20_000)
        session.execute(
            update(Run)
            .where(Run.id != run_id)
            .values(status="CANCELLED", reason="user", ended_at=now - timedelta(minutes=2))
        )
        session.commit()
        session.execute(text("ANALYZE runs"))
        session.commit()
        runs = RunsOf(owner_id, plan.graph_id if one_graph else None)
        before = rows_read(session)
        found = after_in_runs(session, runs, Position(), now - timedelta(minutes=1), 250).rows
        assert {row.run_id for row in found} == {run_id}
        assert rows_read(session) - before < 10


def test_a_run_that_is_not_there_has_ended_and_has_no_events(session_of: Sessions) -> None:
    with session_of() as session:
        assert standing(session, [Place(new_id(), Position())]) == [(True, False)]


@ON_ONE_DATABASE
@given(
    texts=st.lists(st.text("aä€", max_size=8), max_size=10),
    spans=st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), max_size=1),
    longest=st.integers(0, 20),
)
def test_a_span_gives_its_values_in_order_without_those_that_are_too_long(
    session_of: Sessions, texts: list[str], spans: list[tuple[int, int]], longest: int
) -> None:
    run_id = new_id()
    with session_of() as session:
        if texts:
            row = {"run_id": run_id, "node": 0, "idx": 1, "part": 0, "pin": "p"}
            session.execute(insert(Output), [{**row, "ordinal": n, "value": text} for n, text in enumerate(texts)])
        found = values(session, [Span(run_id, 0, 1, *span) for span in spans], longest)
    wanted = range(*spans[0]) if spans else range(0)
    assert found == [
        EventValue(run_id, 0, 1, ordinal, "p", text if len(text.encode()) <= longest else None)
        for ordinal, text in enumerate(texts)
        if ordinal in wanted
    ]
