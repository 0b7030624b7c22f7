"""What happens in the engine tells its owner, in the transaction in which it happens."""

from uuid import UUID

import pytest
from installation import ECHO
from sqlalchemy import text

from agentflow.credits import store as credits
from agentflow.credits.store import Gift
from agentflow.credits.tables import TransactionType
from agentflow.ids import new_id
from agentflow.services.transaction import transaction
from agentflow.worker.process import process

REVIEW = "8b2a7b3c-6e9d-4a5f-8c1b-2e3f4a5b6c7d"
FIND = "262ca24c-1025-43cf-a578-534e23234e97"
SUB_GRAPH = "e189baac-8c20-45a1-94a7-55177ea42565"
FAILS = {
    "name": "list of one",
    "nodes": [{"id": "item", "block_id": FIND, "input_default": {"list": [1], "index": 5}}],
    "links": [],
}
ASKS = {
    "name": "asks",
    "nodes": [{"id": "ask", "block_id": REVIEW, "input_default": {"name": "Look", "data": "x"}}],
    "links": [],
}


def ask(statement, **values):
    with transaction() as session:
        return session.execute(text(statement), values)


@pytest.fixture
def told(environment):
    def find():
        found = ask("SELECT kind, cause, data FROM notifications ORDER BY id").all()
        return [tuple(row) for row in found]

    return find


def test_a_failed_run_is_told_once_for_each_end(api, submit, work, told):
    run = submit(FAILS)
    work(run)
    ((kind, cause, data),) = told()
    assert (kind, cause) == ("run_failed", f"run-failed:{run}:0")
    assert (data["run"], data["graph_name"], data["reason"]) == (str(run), "list of one", "node_failed")
    assert "out of range" in data["error"]
    assert api.post(f"/api/v1/runs/{run}/retry").status_code == 202
    work(run)
    assert [cause for _, cause, _ in told()] == [f"run-failed:{run}:0", f"run-failed:{run}:1"]


def test_a_run_that_ends_well_tells_those_who_asked(submit, work, told):
    work(submit(ECHO, {"word": "a"}))
    assert told() == []
    asked = submit(ECHO, {"word": "a"}, labels={"notify": "finished"})
    work(asked)
    ((kind, cause, data),) = told()
    assert (kind, cause) == ("run_finished", f"run-finished:{asked}:0")
    assert (data["status"], data["node_count"]) == ("COMPLETED", 2)


def test_a_preference_asks_for_every_end(submit, work, told):
    (owner,) = ask("SELECT id FROM users").scalars()
    ask("INSERT INTO notification_settings (owner_id, wants_finished) VALUES (:owner, true)", owner=owner)
    work(submit(ECHO, {"word": "a"}))
    assert [kind for kind, *_ in told()] == ["run_finished"]


def test_a_run_that_the_engine_gave_up_is_told(submit, told):
    run = submit(ECHO, {"word": "a"})
    assert process().hot.fault_of_run(run, -1, "it broke").verdict == "given_up"
    ((kind, cause, data),) = told()
    assert (kind, cause, data["error"]) == ("run_failed", f"run-failed:{run}:0", "it broke")


def test_a_review_is_told_when_it_waits_and_not_when_it_is_approved_in_advance(submit, work, told):
    run = submit(ASKS)
    work(run)
    ((kind, cause, data),) = told()
    (review,) = ask("SELECT id FROM reviews").scalars()
    assert (kind, cause) == ("review_wanted", f"review:{review}")
    assert (data["name"], data["run"], data["review"]) == ("Look", str(run), str(review))
    other = submit(ASKS)
    ask("INSERT INTO review_policies (run_id, node) VALUES (:run, 0)", run=other)
    work(other)
    assert len(told()) == 1


def give(owner, amount, low=None):
    with transaction() as session:
        credits.give(session, Gift(owner, TransactionType.GRANT, amount, "r", str(new_id())), low)


def charge(owner, amount, low):
    what = f'{{"owner": "{owner}", "token": "{new_id()}", "amount": {amount}, "low": {low}, "attempt": 1}}'
    statement = "SELECT * FROM agentflow_charge(:run, 0, 1, CAST(:what AS json), true)"
    ask(statement, run=new_id(), what=what)


def test_a_low_and_an_empty_balance_are_told_once_until_credits_are_given(api, told):
    (owner,) = ask("SELECT id FROM users").scalars()
    give(owner, 10)
    charge(owner, 4, 5)
    assert told() == []
    for _ in range(2):
        charge(owner, 2, 5)
    assert [(kind, data["balance"]) for kind, _, data in told()] == [("low_balance", 4)]
    for _ in range(2):
        charge(owner, 3, 5)
    assert [kind for kind, *_ in told()] == ["low_balance", "zero_balance"]
    give(owner, 10, 5)
    charge(owner, 7, 5)
    charge(owner, 70, 5)
    assert [kind for kind, *_ in told()] == ["low_balance", "zero_balance"] * 2
    assert len({cause for _, cause, _ in told()}) == 4


def test_ids_that_the_database_makes_are_ordered_by_time(environment):
    found = [ask("SELECT agentflow_new_id()").scalar_one() for _ in range(3)]
    assert all(isinstance(one, UUID) and one.version == 7 and one.variant == new_id().variant for one in found)
    assert abs((found[0].int >> 80) - (new_id().int >> 80)) < 60_000
