"""Real workers spend one balance at once, and one of them dies: nothing is paid twice, and nothing for nothing."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import Fleet, graph, node, noted, until
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from agentflow.client.http import ApiError
from agentflow.credits import store

pytestmark = pytest.mark.scenario

PRICE = 3
"""Of the block TestPaid."""


@pytest.fixture
def fleet(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Fleet]:
    """An API server and two workers with two children each, where owners pay."""
    made = Fleet(database_url, broker_url, tmp_path, children=2, environment={"AGENTFLOW_CREDITS": "true"})
    try:
        made.start_web()
        made.ensure_workers(2)
        yield made
    finally:
        made.stop()


def test_as_many_runs_complete_as_the_balance_pays_for_though_a_worker_dies(fleet: Fleet, log: Path) -> None:
    owner = fleet.client.me().user.id
    fleet.client.credits.grant(owner, 100, "a hundred")
    document = graph([node("paid", "TestPaid", value=1, seconds=0.05, log=str(log))], [])
    runs, refused = [], []
    for number in range(50):
        try:
            runs.append(fleet.submit(document))
        except ApiError as error:
            refused.append(error.status)
        if number == 20:
            until(lambda: noted(log), "some run is under way")
            fleet.kill(next(iter(fleet.workers)))
    assert set(refused) <= {402}
    ended = [fleet.ended(run_id, 60) for run_id in runs]
    outcomes = Counter((run.status, run.reason) for run in ended)
    completed = 100 // PRICE
    refusals = 50 - len(refused) - completed
    assert outcomes == Counter({("COMPLETED", None): completed, ("FAILED", "insufficient_balance"): refusals})
    assert all("costs 3 credits, and the balance is" in (run.error or "") for run in ended if run.reason)
    used = [one for one in fleet.client.credits.transactions() if one.type == "USAGE"]
    assert Counter(one.run_id for one in used) == {run.id: 1 for run in ended if run.status == "COMPLETED"}
    found = fleet.client.credits.get()
    assert (found.balance, found.held, found.spent_today) == (100 % PRICE, 0, 99)
    engine = create_engine(fleet.database_url)
    with Session(engine) as session:
        assert store.disagreements(session, 10) == []
    engine.dispose()
