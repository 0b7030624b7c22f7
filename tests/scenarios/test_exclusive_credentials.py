"""One node execution at a time uses an exclusive credential, over real workers that die, and nobody waits for ever."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet import LEASE_SECONDS, Fleet, graph, link, node, noted, until

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(240)]

KEY = "e" * 42 + "A="
SECRET = {"type": "api_key", "api_key": "k" * 20}


@pytest.fixture
def fleet(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Fleet]:
    """An API server, and three workers with two children each."""
    made = Fleet(database_url, broker_url, tmp_path, children=2, environment={"AGENTFLOW_CREDENTIAL_KEYS": KEY})
    try:
        made.start_web()
        made.ensure_workers(3)
        yield made
    finally:
        made.stop()


@pytest.fixture
def uses(tmp_path: Path, log: Path) -> Any:
    """A graph of so many executions that use the credential, one beside the other if they may."""

    def of(count: int, seconds: float, **more: Any) -> dict[str, Any]:
        given = {"seconds": seconds, "mark": str(tmp_path / "mark"), "log": str(log), **more}
        return graph(
            [node("each", "StepThroughItems", items=list(range(count))), node("use", "TestAlone", **given)],
            [link("each:item", "use:value")],
        )

    return of


def overlapped(tmp_path: Path) -> str:
    found = tmp_path / "overlaps"
    return found.read_text() if found.exists() else ""


def test_a_shared_one_is_used_by_several_at_once(fleet: Fleet, uses: Any, tmp_path: Path) -> None:
    """So the test below can fail."""
    fleet.client.credentials.create("alone", SECRET)
    assert fleet.run(uses(12, 0.3)).status == "COMPLETED"
    assert overlapped(tmp_path)


def test_whatever_ends_its_holder_the_next_gets_it_and_no_two_use_it_at_once(
    fleet: Fleet, uses: Any, rows: Any, log: Path, tmp_path: Path
) -> None:
    credential = fleet.client.credentials.create("alone", SECRET, exclusive=True)
    named = {"credentials": {"id": str(credential.id)}}
    slots = "SELECT e.holder FROM limit_slots s JOIN node_executions e USING (run_id, node, idx)"
    holds = f"{slots} WHERE e.status = 'RUNNING'"
    stuck = fleet.submit(uses(1, 60))
    until(lambda: rows(holds), "one uses it for long")
    sorts: list[dict[str, Any]] = [{"fails": True}, {}, named, {}]
    failing, plain, by_id, cancelled = (fleet.submit(uses(6, 0.05, **more)) for more in sorts)
    until(lambda: rows("SELECT 1 FROM limit_queue HAVING count(*) = 24"), "all others are in line, and occupy nobody")
    assert not rows("SELECT 1 FROM node_executions WHERE status = 'RUNNING' OFFSET 1")
    fleet.client.cancel(cancelled)
    # Its holder's worker dies; the node execution keeps its slot, runs again elsewhere, and is cancelled there.
    ((holder,),) = rows(holds)
    fleet.kill(next(name for name in fleet.workers if holder.startswith(f"{name}@")))
    until(lambda: len([one for one in noted(log) if one[0] == "use"]) == 2, "it runs again", 10 * LEASE_SECONDS)
    fleet.client.cancel(stuck)
    assert fleet.ended(stuck).status == "CANCELLED"
    assert fleet.ended(failing, 90).status == "FAILED"
    assert [fleet.ended(one, 90).status for one in (plain, by_id, cancelled)] == ["COMPLETED", "COMPLETED", "CANCELLED"]
    failed = "SELECT reason, count(*) FROM node_executions WHERE status = 'FAILED' GROUP BY 1"
    assert rows(failed) == [("user", 6)]
    assert overlapped(tmp_path) == ""
    until(lambda: not rows("SELECT 1 FROM limit_slots"), "no slot is left")
    until(lambda: not rows("SELECT 1 FROM limit_queue"), "nobody is in line")


def test_all_in_line_for_one_that_is_deleted_fail_soon(fleet: Fleet, uses: Any, rows: Any) -> None:
    credential = fleet.client.credentials.create("alone", SECRET, exclusive=True)
    run_id = fleet.submit(uses(60, 0.5, credentials={"id": str(credential.id)}))
    until(lambda: rows("SELECT 1 FROM limit_queue HAVING count(*) > 50"), "they are in line")
    fleet.client.credentials.delete(credential.id)
    run = fleet.ended(run_id)  # by the reaper alone it would take five seconds for each
    assert run.status == "FAILED"
    reasons = dict(rows("SELECT reason, count(*) FROM node_executions WHERE status = 'FAILED' GROUP BY 1"))
    assert reasons.keys() == {"user"}
    assert reasons["user"] > 50
