"""Runs are listed in pages, each once and the newest first, and an owner sees no others."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from many_runs import copies, rows_read
from plans import plan_of
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from agentflow.engine.statuses import RunStatus
from agentflow.ids import new_id
from agentflow.storage import runs as stored
from agentflow.storage.runs import Parent
from agentflow.storage.tables import Run
from agentflow.storage.views import runs
from agentflow.storage.views.runs import RunFilter

Sessions = Callable[[], Session]


@pytest.fixture
def made(start) -> list[UUID]:
    """Seven runs: three of one graph with a label, three of another, and a child run of the first."""
    labelled, plain = plan_of(nodes=1), plan_of(nodes=1)
    ids = [start(labelled, labels={"team": "a", "no": str(number)})[0] for number in range(3)]
    ids += [start(plain)[0] for _ in range(3)]
    return [*ids, start(plain, parent=Parent(ids[0], 0, 1))[0]]


@pytest.fixture
def owner(made: list[UUID], session_of: Sessions) -> UUID:
    with session_of() as session:
        return session.scalars(select(Run.owner_id).distinct()).one()


@pytest.mark.parametrize("limit", range(1, 9))
def test_pages_of_any_size_give_each_run_once_the_newest_first(
    made: list[UUID], owner: UUID, session_of: Sessions, limit: int
) -> None:
    found: list[UUID] = []
    with session_of() as session:
        before = None
        while rows := runs.page(session, owner, RunFilter(), before, limit):
            assert len(rows) <= limit
            found += [row.id for row in rows]
            before = found[-1]
    assert found == made[::-1]


def test_one_run_is_read_and_no_other_of_its_owner_also_before_there_are_statistics(
    made: list[UUID], owner: UUID, session_of: Sessions
) -> None:
    with session_of() as session:
        copies(session, made[0], 800)
        session.execute(text("SELECT pg_clear_relation_stats('public', 'runs')"))
        for column in ("id", "owner_id", "status", "ended_at"):
            session.execute(text(f"SELECT pg_clear_attribute_stats('public', 'runs', '{column}', false)"))
        session.commit()
        before = rows_read(session)
        assert runs.find(session, owner, made[0]) is not None
        assert rows_read(session) - before < 10


def test_an_owner_sees_no_run_of_another(made: list[UUID], owner: UUID, session_of: Sessions) -> None:
    with session_of() as session:
        assert runs.find(session, owner, made[0]) is not None
        assert runs.find(session, new_id(), made[0]) is None
        assert runs.page(session, new_id(), RunFilter(), None, 10) == []
        assert runs.open_ids(session, new_id(), RunFilter(), 10) == []


def test_each_filter_keeps_what_it_names(made: list[UUID], owner: UUID, session_of: Sessions) -> None:
    with session_of() as session:
        moment, graph_id = session.execute(select(Run.created_at, Run.graph_id).where(Run.id == made[3])).one()

        def kept(**wanted: object) -> list[UUID]:
            return [row.id for row in reversed(runs.page(session, owner, RunFilter(**wanted), None, 10))]

        assert kept(roots=True) == made[:6]
        assert kept(parent=made[0]) == made[6:]
        assert kept(labels={"team": "a"}) == made[:3]
        assert kept(labels={"team": "a", "no": "1"}) == [made[1]]
        assert kept(graph_id=graph_id) == made[3:]
        assert kept(created_after=moment) == made[3:]
        assert kept(created_before=moment) == made[:3]
        assert kept(status="COMPLETED") == []
        assert kept(created_after=moment - timedelta(days=40_000)) == made
        assert kept(created_before=moment - timedelta(days=40_000)) == []


def test_what_has_ended_and_what_is_a_child_is_not_open(made: list[UUID], owner: UUID, session_of: Sessions) -> None:
    with session_of() as session, session.begin():
        assert runs.open_ids(session, owner, RunFilter(), 10) == made[5::-1]
        assert runs.open_ids(session, owner, RunFilter(), 2) == made[5:3:-1]


def test_the_inputs_of_a_run_are_read_as_they_were_given(start, session_of: Sessions) -> None:
    run_id, _ = start(plan_of(nodes=1, inputs=frozenset({0})), {"input 0": [1, None], "unknown": "ä"})
    with session_of() as session:
        assert runs.inputs(session, run_id) == {"input 0": "[1,null]", "unknown": '"ä"'}
        assert runs.inputs(session, new_id()) == {}


def test_node_executions_are_counted_by_status(drive, session_of: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = drive(plan_of((0, "x", 1, "a"), nodes=2))
    driver.run(0, 1, ("x", 1), ("x", 2), ("x", 3))
    driver.claim(1, 2)
    with session_of() as session, session.begin():
        assert runs.counts(session, driver.run_id) == {"COMPLETED": 1, "QUEUED": 2, "RUNNING": 1}
        monkeypatch.setattr(runs, "COUNTED", 2)
        assert sum(runs.counts(session, driver.run_id).values()) == 2
        assert stored.stop(session, driver.run_id, RunStatus.CANCELLED, "stopped") == ("stopped", 1)
