"""Owners pay for what their node executions cost: once, with the settlement, and never more than they have."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any
from uuid import UUID

import pytest
from installation import OUTPUT
from probes import Chain, Probe, Rows, Statuses, Submit, Yields, owner_of, passes
from pydantic import Field
from sqlalchemy import text
from steps import claim, execute

from agentflow.blocks.base import BlockInput, Context
from agentflow.credits import store
from agentflow.credits.store import Gift
from agentflow.credits.tables import TransactionType
from agentflow.engine.statuses import RunStatus
from agentflow.engine.waits import Timer
from agentflow.errors import Transient
from agentflow.graph.costs import Cost, CostType
from agentflow.ids import new_token
from agentflow.services import steering
from agentflow.services.cancellation import stop_tree
from agentflow.services.transaction import carry_out, transaction
from agentflow.settings import settings
from agentflow.storage.hot.node_executions import HotConnection
from agentflow.worker import execute as worker
from agentflow.worker.attempt import Attempt
from agentflow.worker.finalise import finalise
from agentflow.worker.process import process
from agentflow.worker.upkeep import Upkeep


class Purse:
    """The credits of the owner of all runs."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    @property
    def owner(self) -> UUID:
        (found,) = self._rows("SELECT id FROM users WHERE name = 'owner'")
        return UUID(str(found))

    def give(self, amount: int) -> None:
        with transaction() as session:
            store.give(session, Gift(self.owner, TransactionType.GRANT, amount, "a gift", str(new_token())))

    @property
    def balance(self) -> tuple[int, int]:
        """What may be spent, and what is held."""
        with transaction() as session:
            assert store.disagreements(session, 10) == []
            store.post(session, self.owner, None)
            assert store.disagreements(session, 10) == []
            found = store.balance(session, self.owner)
        return found.available, found.held

    def paid(self, run_id: UUID) -> list[tuple[int, int, int, int]]:
        """(node, index, attempt, credits), in the order of the ledger."""
        with transaction() as session:
            store.post(session, self.owner, None)
        return list(
            self._rows(
                "SELECT node, idx, attempt, -amount FROM credit_transactions WHERE run_id = :run AND type = 'USAGE' "
                "ORDER BY number",
                run=run_id,
            )
        )


@pytest.fixture
def purse(api: Any, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> Iterator[Purse]:
    """Credits are on, and the owner has 100."""
    monkeypatch.setattr(settings(), "credits", True)
    made = Purse(rows)
    made.give(100)
    yield made
    assert sum(made.balance) >= 0


def ended(rows: Rows, run_id: UUID) -> tuple[Any, ...]:
    (found,) = rows("SELECT status, reason, error FROM runs WHERE id = :run", run=run_id)
    return tuple(found)


def test_what_completed_is_paid_and_noted(probe: Probe, chain: Chain, rows: Rows, purse: Purse) -> None:
    run_id = chain(probe(passes, cost=7), probe(passes), probe(passes, cost=[Cost(2)]), value=1)
    for node in range(3):
        execute(run_id, node, 1)
    assert finalise(run_id)
    assert purse.paid(run_id) == [(0, 1, 1, 7), (2, 1, 1, 2)]
    assert purse.balance == (91, 0)
    assert rows("SELECT stats ->> 'charged', stats ->> 'cost' FROM runs") == [("9", "9")]


def test_with_credits_off_nothing_is_written_or_asked(
    probe: Probe, chain: Chain, rows: Rows, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "credits", False)
    called: list[str] = []
    call = HotConnection._call
    monkeypatch.setattr(HotConnection, "_call", lambda self, name, *v: (called.append(name), call(self, name, *v))[1])
    run_id = chain(probe(passes, cost=7), value=1)
    execute(run_id, 0, 1)
    assert [name for name in called if name in ("claim", "settle", "hold_credits", "drop_holds")] == ["claim", "settle"]
    assert purse.balance == (100, 0)
    assert purse.paid(run_id) == []
    assert rows("SELECT stats FROM node_executions") == [{"cost": 7}]


def test_what_is_free_asks_for_nothing(
    probe: Probe, chain: Chain, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HotConnection, "hold_credits", None)
    free = [probe(passes, cost=[Cost(5, filter={"value": "other"})]), probe(passes), probe(passes, cost=0)]
    run_id = chain(*free, value=1)
    for node in range(3):
        execute(run_id, node, 1)
    assert purse.paid(run_id) == []


@pytest.mark.parametrize(
    ("cost", "reports", "completed", "failed"),
    [
        (Cost(5), {}, 5, 0),
        (Cost(1, CostType.BYTE, 10), {}, 2, 0),
        (Cost(3, CostType.ITEMS, 2), {"items": 5}, 9, 9),
        (Cost(100, CostType.COST_USD), {"cost_usd": 0.071}, 8, 8),
        (Cost(4, CostType.TOKENS), {"input_tokens": 1000}, 4, 0),
        (Cost(3), {"cost": 2}, 5, 2),
        (Cost(9, CostType.SECOND), {}, 9, 9),
    ],
)
def test_what_fails_pays_for_what_it_used_and_reported_only(
    probe: Probe, chain: Chain, purse: Purse, cost: Cost, reports: dict[str, float], completed: int, failed: int
) -> None:
    def reporting(inputs: Any, context: Context) -> Yields:
        context.report(**reports)
        yield "value", 1
        if inputs.value == "bad":
            raise ValueError("no")

    block = probe(reporting, cost=[cost])
    for value, price in (("good", completed), ("bad", failed)):
        before, _ = purse.balance
        execute(run_id := chain(block, value=value), 0, 1)
        assert purse.balance == (before - price, 0)
        assert [credits for *_, credits in purse.paid(run_id)] == ([price] if price else [])


def test_a_retried_attempt_is_paid_for_what_it_reported_and_its_end_once(
    probe: Probe, chain: Chain, purse: Purse
) -> None:
    def fails_first(inputs: Any, context: Context) -> Yields:
        context.report(items=1)
        if context.attempt < 3:
            raise Transient("later")
        yield "value", 1

    block = probe(fails_first, cost=[Cost(2, CostType.ITEMS)])
    run_id = chain(block, value=1, settings={"retry": {"max_failures": 5, "base": 0}})
    for _ in range(3):
        execute(run_id, 0, 1)
    assert purse.paid(run_id) == [(0, 1, 1, 2), (0, 1, 2, 2), (0, 1, 3, 2)]
    assert purse.balance == (94, 0)


def test_an_attempt_that_was_lost_is_charged_once(probe: Probe, chain: Chain, purse: Purse) -> None:
    run_id = chain(probe(passes, cost=7), value=1)
    lost = claim(process(), run_id, 0, 1)
    assert isinstance(lost, Attempt)
    outcome = worker.perform(lost)
    assert purse.balance == (93, 7)
    lost.return_lease()
    execute(run_id, 0, 1)
    worker.settle(lost, outcome)
    assert purse.balance == (93, 0)
    assert [credits for *_, credits in purse.paid(run_id)] == [7]


def test_a_settle_whose_reply_is_lost_charges_once(
    probe: Probe, chain: Chain, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = chain(probe(passes, cost=7), value=1)
    attempt = claim(process(), run_id, 0, 1)
    assert isinstance(attempt, Attempt)
    settle = HotConnection.settle
    monkeypatch.setattr(HotConnection, "settle", lambda self, made: [settle(self, made) for _ in range(3)][-1])
    worker.settle(attempt, worker.perform(attempt))
    assert purse.paid(run_id) == [(0, 1, 1, 7)]
    assert purse.balance == (93, 0)


def test_cached_outputs_cost_nothing(probe: Probe, chain: Chain, purse: Purse) -> None:
    block = probe(passes, cost=7)
    for _ in range(3):
        execute(chain(block, value=1, settings={"cache": {"ttl": 60}}), 0, 1)
    assert purse.balance == (93, 0)


def test_what_waits_keeps_what_is_held_and_pays_at_its_end(
    probe: Probe, chain: Chain, rows: Rows, purse: Purse
) -> None:
    def waits(inputs: Any, context: Context) -> Yields:
        context.report(cost=1)
        if context.resumed is None:
            yield Timer(0)
        else:
            yield "value", 1

    run_id = chain(probe(waits, cost=7), value=1)
    execute(run_id, 0, 1)
    assert purse.balance == (92, 7)
    execute(run_id, 0, 1)
    assert purse.balance == (91, 0)
    assert purse.paid(run_id) == [(0, 1, 1, 1), (0, 1, 1, 8)]


class _Small(BlockInput):
    value: Annotated[int, Field(le=5)] = 0
    number: int = 0


def test_what_was_held_with_the_claim_is_let_go_of_if_the_block_cannot_start(
    probe: Probe, chain: Chain, statuses: Statuses, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(HotConnection, "hold_credits")  # it would be a round trip more
    run_id = chain(probe(passes, cost=7), probe(passes, cost=5, Input=_Small), value=9)
    execute(run_id, 0, 1)
    execute(run_id, 1, 1)
    assert statuses(run_id) == {"0/1": "COMPLETED", "1/1": "FAILED user"}
    assert purse.paid(run_id) == [(0, 1, 1, 7)]
    assert purse.balance == (93, 0)


def test_too_few_credits_start_nothing_and_end_the_run(
    probe: Probe, submit: Submit, statuses: Statuses, rows: Rows, purse: Purse
) -> None:
    ran: list[Any] = []

    def runs(inputs: Any, context: Context) -> Yields:
        ran.append(inputs.value)
        yield "value", 1

    blocks = [probe(runs, cost=60), probe(runs, cost=41), probe(runs, cost=1)]
    nodes = [{"id": f"n{number}", "block_id": block, "input_default": {}} for number, block in enumerate(blocks)]
    nodes.append({"id": "caught", "block_id": OUTPUT, "input_default": {"name": "caught"}})
    links = [{"source_id": "n1", "source_name": "error", "sink_id": "caught", "sink_name": "value"}]
    run_id = submit({"name": "dear", "nodes": nodes, "links": links})
    execute(run_id, 0, 1)
    execute(run_id, 1, 1)
    assert len(ran) == 1
    assert statuses(run_id) == {"0/1": "COMPLETED", "1/1": "FAILED insufficient_balance", "2/1": "CANCELLED"}
    assert finalise(run_id)
    assert ended(rows, run_id) == (
        "FAILED",
        "insufficient_balance",
        "Probe1 (n1) costs 41 credits, and the balance is 40",
    )
    assert purse.balance == (40, 0)

    purse.give(10)
    carry_out(steering.retry(purse.owner, run_id))
    execute(run_id, 1, 1)
    execute(run_id, 2, 1)
    assert finalise(run_id)
    assert ended(rows, run_id)[0] == "COMPLETED"
    assert [(node, credits) for node, *_, credits in purse.paid(run_id)] == [(0, 60), (1, 41), (2, 1)]
    assert purse.balance == (8, 0)


def test_a_price_that_is_known_too_late_takes_the_rest_and_ends_the_run(
    probe: Probe, submit: Submit, statuses: Statuses, rows: Rows, purse: Purse
) -> None:
    def reports(inputs: Any, context: Context) -> Yields:
        context.report(items=inputs.value)
        yield "value", 1

    block = probe(reports, cost=[Cost(10, CostType.ITEMS)])
    nodes = [{"id": f"n{number}", "block_id": block, "input_default": {"value": 15}} for number in range(2)]
    run_id = submit({"name": "dear", "nodes": nodes, "links": []})
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "COMPLETED", "1/1": "CANCELLED"}
    assert finalise(run_id)
    assert ended(rows, run_id)[1:] == ("insufficient_balance", "Probe0 (n0) cost 150 credits, and the balance was 100")
    assert purse.balance == (0, 0)
    assert rows("SELECT amount, unpaid FROM credit_transactions WHERE type = 'USAGE'") == [(-100, 50)]
    assert rows("SELECT stats ->> 'cost', stats ->> 'charged' FROM runs") == [("150", "100")]


def test_an_empty_balance_starts_nothing_that_can_cost(
    probe: Probe, chain: Chain, statuses: Statuses, purse: Purse
) -> None:
    run_id = chain(probe(passes, cost=[Cost(1, CostType.SECOND)]), value=1)
    other = chain(probe(passes, cost=100), value=1)
    execute(other, 0, 1)
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "FAILED insufficient_balance"}


def test_a_child_run_that_cannot_pay_ends_its_tree(
    probe: Probe, api: Any, push: Callable[..., UUID], rows: Rows, purse: Purse, work: Callable[..., None]
) -> None:
    inner = push({"name": "inner", "nodes": [{"id": "n", "block_id": probe(passes, cost=101)}], "links": []})
    outer = {
        "name": "outer",
        "nodes": [
            {
                "id": "sub",
                "block_id": "e189baac-8c20-45a1-94a7-55177ea42565",
                "input_default": {"graph_id": str(inner), "graph_version": 1, "input_schema": {}, "output_schema": {}},
            }
        ],
        "links": [],
    }
    run_id = UUID(api.post("/api/v1/runs", json={"graph": outer}).json["id"])
    execute(run_id, 0, 1)
    (child,) = rows("SELECT id FROM runs WHERE parent_run_id = :run", run=run_id)
    execute(child, 0, 1)
    finalise(child)
    finalise(run_id)
    said = "Probe0 (n) costs 101 credits, and the balance is 100"
    assert ended(rows, run_id) == ("FAILED", "insufficient_balance", said)
    assert purse.balance == (100, 0)


def test_a_stopped_attempt_pays_for_what_it_reported(
    probe: Probe, chain: Chain, statuses: Statuses, rows: Rows, purse: Purse
) -> None:
    def reports(inputs: Any, context: Context) -> Yields:
        context.report(cost=3)
        carry_out(stop_tree(context.run_id, RunStatus.CANCELLED, "enough"))
        yield "value", 1

    run_id = chain(probe(reports, cost=7), value=1)
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "CANCELLED"}
    assert purse.balance == (97, 0)
    assert finalise(run_id)
    assert rows("SELECT stats ->> 'cost' FROM runs") == ["3"]


def test_what_is_held_for_a_cancelled_one_is_given_back(probe: Probe, chain: Chain, purse: Purse) -> None:
    def waits(inputs: Any, context: Context) -> Yields:
        yield Timer(3600)

    run_id = chain(probe(waits, cost=7), value=1)
    execute(run_id, 0, 1)
    carry_out(stop_tree(run_id, RunStatus.CANCELLED, "enough"))
    assert purse.balance == (93, 7)
    Upkeep(process()).run_pass()
    assert purse.balance == (100, 0)


def test_a_fork_pays_only_for_what_runs_anew(probe: Probe, chain: Chain, rows: Rows, purse: Purse) -> None:
    run_id = chain(probe(passes, cost=7), probe(passes, cost=5), value=1)
    for node in range(2):
        execute(run_id, node, 1)
    assert finalise(run_id)
    with transaction() as session:
        fork = steering.fork(session, purse.owner, run_id, "n1", {}).id
    execute(fork, 1, 1)
    assert finalise(fork)
    assert purse.paid(fork) == [(1, 1, 1, 5)]
    assert rows("SELECT stats ->> 'cost' FROM runs WHERE id = :run", run=fork) == ["5"]
    assert purse.balance == (83, 0)


def test_the_limit_a_day_ends_a_run(probe: Probe, chain: Chain, rows: Rows, purse: Purse) -> None:
    with transaction() as session:
        store.set_daily_limit(session, purse.owner, 10)
    run_id = chain(probe(passes, cost=6), probe(passes, cost=5), value=1)
    execute(run_id, 0, 1)
    execute(run_id, 1, 1)
    assert finalise(run_id)
    assert ended(rows, run_id)[1] == "insufficient_balance"
    assert "4 are left of the limit a day" in ended(rows, run_id)[2]


def test_defaults_count_for_the_filter(probe: Probe, chain: Chain, purse: Purse) -> None:
    run_id = chain(probe(passes, cost=[Cost(9, filter={"value": 1}), Cost(2, filter={"value": None})]))
    execute(run_id, 0, 1)
    assert [credits for *_, credits in purse.paid(run_id)] == [2]


def test_owners_are_asked_by_their_own_runs(probe: Probe, chain: Chain, rows: Rows, purse: Purse) -> None:
    assert owner_of(rows, chain(probe(passes), value=1)) == purse.owner
    with transaction() as session:
        assert session.scalar(text("SELECT count(*) FROM credit_balances")) == 1
