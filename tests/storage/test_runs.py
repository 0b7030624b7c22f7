"""Runs of an owner start up to the bound, the most urgent first and then the oldest, whoever admits them."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as bounds
from hypothesis import strategies as st
from plans import plan_of
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from agentflow.settings import settings
from agentflow.storage.runs import admit
from agentflow.storage.tables import Run


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The operator allows an owner one active run."""
    monkeypatch.setenv("AGENTFLOW_MAX_ACTIVE_RUNS", "1")
    settings.cache_clear()
    yield
    monkeypatch.undo()
    settings.cache_clear()


@pytest.mark.usefixtures("one_at_a_time")
@bounds(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(priorities=st.lists(st.integers(0, 9), min_size=1, max_size=6), most=st.integers(1, 8))
def test_as_many_are_admitted_as_have_a_place_in_their_order(
    start, session_of: Callable[[], Session], priorities: list[int], most: int
) -> None:
    plan = plan_of(nodes=2)
    first, ready = start(plan)
    assert len(ready) == 2
    waiting = [start(plan, priority=priority) for priority in priorities]
    assert all(ready == [] for _, ready in waiting)
    order = sorted(range(len(waiting)), key=lambda number: (-priorities[number], number))
    with session_of() as session, session.begin():
        owner = session.scalars(select(Run.owner_id).where(Run.id == first)).one()
        admitted = admit(session, owner, most, 100)
        assert admit(session, owner, most, 100) == []
        assert {run.id for run in admitted} == {waiting[number][0] for number in order[: most - 1]}
        assert all(sorted(run.nodes) == [0, 1] for run in admitted)
        session.execute(delete(Run))  # the next example begins with none
