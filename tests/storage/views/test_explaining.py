"""What is open in a run is told by node and state, with the first of each."""

from collections.abc import Callable, Iterator

import pytest
from plans import plan_of
from sqlalchemy import select
from sqlalchemy.orm import Session

from agentflow.ids import new_id
from agentflow.settings import settings
from agentflow.storage.tables import Run
from agentflow.storage.views.explaining import active, ahead, earlier, groups, places


def test_open_node_executions_are_counted_by_node_and_state(drive, session_of: Callable[[], Session]) -> None:
    driver = drive(plan_of((0, "x", 1, "a"), (0, "x", 2, "a"), nodes=3))
    driver.run(0, 1, *(("x", number) for number in range(4)))
    driver.claim(1, 2, holder="worker")
    driver.run(2, 1)
    with session_of() as session:
        found = groups(session, driver.run_id, 10)
        assert groups(session, driver.run_id, 2) == found[:2]
    told = [(group.node, group.status, group.count, group.idx, group.holder) for group in found]
    assert told == [(1, "QUEUED", 3, 1, None), (1, "RUNNING", 1, 2, "worker"), (2, "QUEUED", 3, 2, None)]


def test_nobody_is_ahead_where_no_limit_is_waited_for(drive, session_of: Callable[[], Session]) -> None:
    driver = drive(plan_of(nodes=1))
    with session_of() as session:
        assert places(session, driver.run_id, 0, 10) == []
        assert ahead(session, driver.run_id, 0) == 0


def test_active_and_earlier_runs_are_counted_for_their_owner_alone(start, session_of: Callable[[], Session]) -> None:
    plan = plan_of(nodes=1)
    made = [start(plan)[0] for _ in range(3)]
    with session_of() as session:
        owner = session.scalars(select(Run.owner_id).distinct()).one()
        assert active(session, owner) == 3
        assert active(session, new_id()) == 0
        assert earlier(session, owner, made[2], 5) == 0  # all are admitted


def test_a_run_waits_behind_the_more_urgent_and_the_older(
    start, session_of: Callable[[], Session], monkeypatch
) -> None:
    monkeypatch.setenv("AGENTFLOW_MAX_ACTIVE_RUNS", "1")
    settings.cache_clear()
    plan = plan_of(nodes=1)
    start(plan)
    waiting = [start(plan, priority=priority)[0] for priority in (5, 9, 5, 1)]
    with session_of() as session:
        owner = session.scalars(select(Run.owner_id).distinct()).one()
        found = [earlier(session, owner, run, priority) for run, priority in zip(waiting, (5, 9, 5, 1), strict=True)]
        assert active(session, owner) == 1
    assert found == [1, 0, 2, 3]


@pytest.fixture(autouse=True)
def _settings_are_read_anew() -> Iterator[None]:
    yield
    settings.cache_clear()
