"""Who comes first: what is urgent overtakes, and nobody waits behind all of somebody else's work."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet, graph, link, node, noted, until
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from agentflow.accounts import keys, store
from agentflow.client.client import Client

pytestmark = pytest.mark.scenario


@pytest.fixture
def other(fleet: Fleet) -> Iterator[Client]:
    """Another user of the installation."""
    engine = create_engine(fleet.database_url)
    with Session(engine) as session, session.begin():
        key = keys.create(session, store.add_user(session, "other"), "key")[0]
    engine.dispose()
    with Client(fleet.url, key) as client:
        yield client


def quick(log: Path) -> dict[str, Any]:
    return graph([node("urgent", "TestSleep", value="now", log=str(log))], [])


def busy(count: int, seconds: float, log: Path) -> dict[str, Any]:
    return graph(
        [
            node("each", "StepThroughItems", items=list(range(count))),
            node("work", "TestSleep", seconds=seconds, log=str(log)),
        ],
        [link("each:item", "work:value")],
    )


def begun_before(log: Path, name: str) -> int:
    """How many node executions began before the one of the node `name` did."""
    return [entry[0] for entry in noted(log)].index(name)


def test_what_is_urgent_starts_before_all_that_no_process_has_taken_yet(fleet: Fleet, log: Path) -> None:
    fleet.ensure_workers(2)
    run_id = fleet.submit(busy(100, 0.1, log))
    until(lambda: len(noted(log)) >= 6, "the run is under way")
    begun = len(noted(log))
    urgent = fleet.submit(quick(log), priority=9)
    assert fleet.ended(urgent).status == "COMPLETED"
    processes = len(fleet.workers)
    # Each process is at one and has one more in hand; those that began while the request was under way come on top.
    assert begun_before(log, "urgent") - begun <= 2 * processes + 3
    fleet.client.cancel(run_id)
    fleet.ended(run_id)


def test_a_run_of_ten_thousand_does_not_keep_another_users_run_out(fleet: Fleet, other: Client, log: Path) -> None:
    run_id = fleet.submit(busy(5_000, 0.0, log))
    until(lambda: len(noted(log)) >= 50, "the run is under way")
    begun = len(noted(log))
    accepted = other.submit_inline(quick(log))
    assert other.wait(accepted.id).status == "COMPLETED"
    assert begun_before(log, "urgent") - begun <= 1_000 + 200, "at most the window, and what began meanwhile"
    fleet.client.cancel(run_id)
    fleet.ended(run_id)


def test_many_runs_of_one_user_do_not_keep_another_users_run_out(fleet: Fleet, other: Client, log: Path) -> None:
    mine = [fleet.submit(busy(3, 0.05, log)) for _ in range(120)]
    begun = len(noted(log))
    accepted = other.submit_inline(quick(log))
    assert other.wait(accepted.id).status == "COMPLETED"
    active = 50 * 3  # runs that a user may have at once, and what each of these has ready
    assert begun_before(log, "urgent") - begun <= active + 30, "it waits for those that go on, and not for the others"
    for run_id in mine:
        assert fleet.ended(run_id, seconds=90).status == "COMPLETED"
