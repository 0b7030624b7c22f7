"""A charge is a consequence of a settlement: it happens with it, once, or not at all."""

from collections.abc import Callable
from typing import Any

import pytest
from driver import Driver
from plans import plan_of
from sqlalchemy import text
from sqlalchemy.orm import Session

from agentflow.credits import store
from agentflow.credits.store import Gift
from agentflow.credits.tables import TransactionType
from agentflow.engine.execution import Lease
from agentflow.engine.routing import Batch
from agentflow.engine.settlement import COMPLETED, Charge, Transition, settlement
from agentflow.errors import EngineError
from agentflow.graph.plan import Plan
from agentflow.ids import new_token
from agentflow.storage.hot.node_executions import Settled

Drive = Callable[[Plan], Driver]
Sessions = Callable[[], Session]


@pytest.fixture
def run(drive: Drive, session_of: Sessions) -> Driver:
    """A run of one node whose owner has 10 credits."""
    made = drive(plan_of(nodes=1))
    with session_of() as session, session.begin():
        owner = session.scalar(text("SELECT owner_id FROM runs"))
        store.give(session, Gift(owner, TransactionType.GRANT, 10, "ten", "gift"))
    return made


def settle(run: Driver, token: Any, amount: int, change: Transition = COMPLETED, **more: Any) -> Settled:
    owner = rows(run, "SELECT owner_id FROM runs")[0][0]
    charge = Charge(str(owner), str(token), 1, "n0", "Test", amount, more.get("used", amount), more.get("held", False))
    stats = {"cost": amount} if amount else None
    batch, lease = Batch(first=0), Lease(token, "me", 60)
    return run.hot.settle(settlement(run.plan, run.key(0, 1), lease, batch, change, stats=stats, charge=charge))


def rows(run: Driver, statement: str) -> list[Any]:
    with run._session_of() as session:
        return [tuple(row) for row in session.execute(text(statement))]


LEDGER = "SELECT type, amount, balance, unpaid FROM credit_transactions ORDER BY number OFFSET 1"
NOTED = "SELECT (stats ->> 'cost')::int, (stats ->> 'charged')::int FROM node_executions"


def test_it_happens_with_the_settlement_and_once_however_often_that_is_sent(run: Driver) -> None:
    token, _ = run.claim(0, 1)
    assert [settle(run, token, 4).verdict for _ in range(3)] == ["landed"] * 3
    assert rows(run, LEDGER) == [("USAGE", -4, 6, 0)]
    assert rows(run, NOTED) == [(4, 4)]


def test_a_lost_lease_pays_nothing(run: Driver) -> None:
    run.claim(0, 1)
    assert settle(run, new_token(), 4).verdict == "lost"
    assert rows(run, LEDGER) == []


def test_what_is_missing_is_noted_and_the_run_is_to_be_stopped(run: Driver) -> None:
    token, _ = run.claim(0, 1)
    assert settle(run, token, 14).short
    assert rows(run, LEDGER) == [("USAGE", -10, 0, 4)]
    assert rows(run, NOTED) == [(14, 10)]
    assert rows(run, "SELECT stop_due FROM runs") == [("insufficient_balance",)]
    assert rows(run, "SELECT cost, shortfall FROM run_costs") == [
        (14, "Test (n0) cost 14 credits, and the balance was 10")
    ]


def test_in_a_stopped_run_only_what_was_used_is_paid(run: Driver) -> None:
    token, _ = run.claim(0, 1)
    with run._session_of() as session, session.begin():
        session.execute(text("SELECT agentflow_stop(:run, 'CANCELLED', 'enough')"), {"run": run.run_id})
    assert settle(run, token, 6, used=2).verdict == "stopped"
    assert rows(run, LEDGER) == [("USAGE", -2, 8, 0)]
    assert rows(run, NOTED) == [(2, 2)]
    assert rows(run, "SELECT cost FROM run_costs") == [(2,)]


def test_a_settlement_that_is_refused_charges_nothing(run: Driver) -> None:
    token, _ = run.claim(0, 1)
    with run._session_of() as session, session.begin():
        session.execute(text("UPDATE credit_balances SET last_number = 0"))  # the next number is taken
    with pytest.raises(EngineError):
        settle(run, token, 4)
    assert rows(run, "SELECT balance FROM credit_balances") == [(10,)]
    assert rows(run, "SELECT status FROM node_executions") == [("RUNNING",)]
