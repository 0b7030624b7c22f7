"""Users are suspended, resumed and deleted while workers are at their runs, and the web process dies in between."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fleet import Fleet, graph, link, node, noted, until
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from agentflow.accounts import keys, store
from agentflow.client.client import Client

pytestmark = pytest.mark.scenario


class Member:
    """A user of the installation, with a client."""

    def __init__(self, fleet: Fleet) -> None:
        engine = create_engine(fleet.database_url)
        with Session(engine) as session, session.begin():
            self.id: UUID = store.add_user(session, "member")
            key = keys.create(session, self.id, "key")[0]
        engine.dispose()
        self.client = Client(fleet.url, key)


@pytest.fixture
def member(fleet: Fleet) -> Iterator[Member]:
    made = Member(fleet)
    yield made
    made.client.close()


def steps(log: Path) -> dict[str, Any]:
    """Forty steps of 50 ms."""
    return graph(
        [
            node("each", "StepThroughItems", items=list(range(40))),
            node("work", "TestSleep", seconds=0.05, log=str(log)),
        ],
        [link("each:item", "work:value")],
    )


def is_at_rest(log: Path) -> Any:
    """A condition: nothing has begun since it was asked before."""
    seen: list[int] = []

    def ask() -> bool:
        seen.append(len(noted(log)))
        return len(seen) > 20 and len(set(seen[-20:])) == 1

    return ask


def test_a_suspended_users_run_stops_in_its_middle_and_goes_on_with_each_step_done_once(
    fleet: Fleet, member: Member, log: Path, rows: Any
) -> None:
    run_id = member.client.submit_inline(steps(log)).id
    own = member.client.submit_inline(steps(log)).id
    member.client.pause(own)
    until(lambda: len(noted(log)) >= 4, "the run is under way")
    fleet.client.users.change(member.id, suspended=True)
    until(is_at_rest(log), "what runs has finished, and nothing new starts")
    assert len(noted(log)) < 80
    fleet.kill_web()
    fleet.start_web()
    fleet.client.users.change(member.id, suspended=False)
    until(lambda: member.client.get_run(run_id).ended, "the run goes on")
    assert member.client.get_run(run_id).status == "COMPLETED"
    assert member.client.get_run(own).paused_at is not None
    done = rows("SELECT count(*) FROM outputs WHERE run_id = :run AND node = 1", run=run_id)
    assert done == [(40,)]


def test_a_deleted_users_runs_end_and_all_of_it_goes_although_the_web_process_dies(
    fleet: Fleet, member: Member, log: Path, rows: Any
) -> None:
    for _ in range(3):
        member.client.submit_inline(steps(log))
    until(lambda: len(noted(log)) >= 2, "they are under way")
    fleet.client.users.delete(member.id)
    fleet.kill_web()
    until(
        lambda: rows("SELECT count(*) FROM runs WHERE owner_id = :user", user=member.id) == [(0,)], "the runs are gone"
    )
    rows("UPDATE users SET deleting_at = now() - interval '2 minutes' WHERE id = :user RETURNING 1", user=member.id)
    until(lambda: rows("SELECT 1 FROM users WHERE id = :user", user=member.id) == [], "the user is gone")
    fleet.start_web()
    (entry,) = [one for one in fleet.client.audit(limit=20) if one.action == "delete_user"]
    assert entry.target == str(member.id)
