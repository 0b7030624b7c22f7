"""The ledger: nothing is given or taken twice, no balance falls below 0, and it is the sum of its transactions."""

import queue
import threading
from collections import Counter
from random import Random
from typing import NamedTuple
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2.errors import SerializationFailure
from sqlalchemy import text

from agentflow.accounts import store as accounts
from agentflow.credits import ledger, store
from agentflow.credits.store import Gift
from agentflow.credits.tables import CreditTransaction, TransactionType
from agentflow.engine.codec import dumps
from agentflow.engine.execution import ExecutionKey
from agentflow.errors import AgentFlowError, Conflict, IdempotencyMismatch, NotFound, Unavailable
from agentflow.ids import new_id, new_token
from agentflow.services.transaction import transaction
from agentflow.storage.hot.node_executions import HotConnection, Price


@pytest.fixture
def owner(environment):
    with transaction() as session:
        return accounts.add_user(session, "owner")


def give(owner, amount, cause=None):
    with transaction() as session:
        return store.give(session, Gift(owner, TransactionType.GRANT, amount, "a gift", cause or str(uuid4())))[0]


def balance(owner, low=None):
    with transaction() as session:
        store.post(session, owner, low)
        return store.balance(session, owner)


def transactions(owner):
    with transaction() as session:
        store.post(session, owner, None)
        return store.transactions(session, owner, None, 10_000)[::-1]


def is_in_order(owner):
    """The ledger adds up: each running balance, and the balance at the end."""
    total = 0
    for number, one in enumerate(transactions(owner), 1):
        total += one.amount
        assert (one.number, one.balance) == (number, total)
        assert total >= 0
    assert balance(owner).balance == total
    with transaction() as session:
        assert store.disagreements(session, 10) == []


def hold(hot, key, payer, amount, most_a_day=None, low=None):
    return hot.hold_credits(key, Price(payer.owner, amount, most_a_day, low))


def charge(key, payer, amount, *, held=True, landed=True, low=None):
    what = {
        "owner": str(payer.owner),
        "token": str(payer.token),
        "attempt": 1,
        "node_id": "n",
        "block": "B",
        "amount": amount,
        "used": amount,
        **({"held": True} if held else {}),
        **({"low": low} if low is not None else {}),
    }
    with transaction() as session:
        row = session.execute(
            text("SELECT * FROM agentflow_charge(:run, :node, :idx, CAST(:what AS json), :landed)"),
            {"run": key.run_id, "node": key.node, "idx": key.idx, "what": dumps(what), "landed": landed},
        ).one()
        session.execute(
            text(
                "INSERT INTO node_executions (run_id, node, idx, status, open, have, need, stats, check_at, ended_at) "
                "VALUES (:run, :node, :idx, 'COMPLETED', false, 0, 0, jsonb_build_object('charged', :paid ::bigint), "
                "now(), now()) ON CONFLICT (run_id, node, idx) DO UPDATE SET stats = "
                "agentflow_add_stats(node_executions.stats, excluded.stats)"
            ),
            {"run": key.run_id, "node": key.node, "idx": key.idx, "paid": row.paid},
        )
        return row


@pytest.fixture
def hot(environment):
    connection = HotConnection()
    yield connection
    connection.close()


class Payer(NamedTuple):
    owner: UUID
    token: UUID


def attempt(owner):
    return ExecutionKey(new_id(), 0, 1), Payer(owner, new_token())


def at_once(count, act):
    """`act(number)` in so many threads at once; their results."""
    together, results = threading.Barrier(count), []

    def run(number):
        together.wait()
        results.append(act(number))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == count
    return results


@pytest.mark.parametrize(("has", "price"), [(100, 3), (50, 1), (7, 8), (99, 1)])
def test_of_100_spenders_on_one_balance_as_many_succeed_as_it_pays_for(owner, has, price):
    give(owner, has)

    free = queue.SimpleQueue()  # PostgreSQL takes fewer connections than there are spenders
    for connection in (connections := [HotConnection() for _ in range(50)]):
        free.put(connection)

    def spend(_):
        key, payer = attempt(owner)
        connection = free.get()
        held = hold(connection, key, payer, price).verdict
        free.put(connection)
        if held == "held":
            assert charge(key, payer, price).missing == 0
        return held

    verdicts = Counter(at_once(100, spend))
    for connection in connections:
        connection.close()
    assert verdicts["held"] == min(has // price, 100)
    assert balance(owner)[:2] == (has - price * verdicts["held"], 0)
    is_in_order(owner)


def test_a_cause_counts_once_however_often_it_is_delivered_at_once(owner):
    verdicts = at_once(20, lambda _: give(owner, 5, "payment 1"))
    assert Counter(verdicts) == {"given": 1, "before": 19}
    assert balance(owner).balance == 5
    is_in_order(owner)


def test_one_cause_for_two_owners_at_once_counts_for_one(owner):
    with transaction() as session:
        other = accounts.add_user(session, "other")
    verdicts = at_once(20, lambda number: give((owner, other)[number % 2], 5, "payment 2"))
    assert Counter(verdicts) == {"given": 1, "before": 19}
    assert balance(owner).balance + balance(other).balance == 5


def test_what_is_held_is_given_back_and_the_price_taken(owner, hot):
    give(owner, 10)
    key, payer = attempt(owner)
    assert hold(hot, key, payer, 4)[:2] == ("held", 6)
    assert balance(owner)[:2] == (10, 4)
    assert charge(key, payer, 3).paid == 3
    assert balance(owner)[:2] == (7, 0)
    assert [(one.type, one.amount, one.balance, one.run_id) for one in transactions(owner)] == [
        ("GRANT", 10, 10, None),
        ("USAGE", -3, 7, key.run_id),
    ]
    is_in_order(owner)


def test_what_was_charged_and_is_not_posted_yet_cannot_be_spent_again(owner, hot):
    give(owner, 10)
    for price in (4, 3):
        key, payer = attempt(owner)
        assert hold(hot, key, payer, price).verdict == "held"
        assert charge(key, payer, price - 1).missing == 0
        with transaction() as session:
            assert store.disagreements(session, 10) == []
    with transaction() as session:
        assert store.balance(session, owner)[:2] == (10, 7), "a settlement locks no balance"
    assert hold(hot, *attempt(owner), 4).verdict == "held", "looking for enough posts them"
    assert balance(owner)[:2] == (5, 4)
    assert hold(hot, *attempt(owner), 2)[:2] == ("short", 1)
    is_in_order(owner)


def test_an_attempt_after_one_whose_charge_is_not_posted_yet_holds_anew(owner, hot):
    give(owner, 10)
    key, payer = attempt(owner)
    for left in (7, 4, 1):
        assert hold(hot, key, payer, 3)[:2] == ("held", left)
        assert charge(key, payer, 3).paid == 3
        payer = payer._replace(token=new_token())
    assert hold(hot, key, payer, 3)[:2] == ("short", 1)
    assert balance(owner)[:2] == (1, 0)
    is_in_order(owner)


def test_charges_of_many_owners_are_posted_in_their_order(environment, hot):
    owners = []
    for number in range(7):
        with transaction() as session:
            owners.append(accounts.add_user(session, f"owner {number}"))
        give(owners[-1], 1000)
    for price in range(1, 13):
        for owner in owners:
            key, payer = attempt(owner)
            hold(hot, key, payer, price)
            charge(key, payer, price - (price % 3 == 0) * price)
    assert [hot.post_some(3, None) for _ in range(4)] == [3, 3, 1, 0]
    for owner in owners:
        with transaction() as session:
            amounts = [-one.amount for one in store.transactions(session, owner, None, 100)[::-1][1:]]
        assert amounts == [price for price in range(1, 13) if price % 3]
        is_in_order(owner)


def test_charges_of_yesterday_count_for_yesterday(owner, hot):
    give(owner, 100)
    for _ in range(2):
        key, payer = attempt(owner)
        hold(hot, key, payer, 5)
        charge(key, payer, 5)
    with transaction() as session:
        session.execute(
            text(
                "UPDATE credit_holds SET settled_at = settled_at - interval '1 day' WHERE ctid = "
                "(SELECT min(ctid) FROM credit_holds)"
            )
        )
    assert balance(owner).spent == 5
    is_in_order(owner)


def test_the_next_attempt_takes_over_what_a_lost_one_held(owner, hot):
    give(owner, 10)
    key, payer = attempt(owner)
    for price, left in ((7, 3), (7, 3), (9, 1), (2, 8)):
        assert hold(hot, key, payer._replace(token=new_token()), price)[:2] == ("held", left)
        assert balance(owner)[:2] == (10, price)
        is_in_order(owner)
    refused = hold(hot, key, payer._replace(token=new_token()), 11)
    assert refused[:2] == ("short", 10)


def test_what_is_held_for_a_node_execution_that_is_gone_is_given_back(owner, hot):
    give(owner, 10)
    for _ in range(3):
        hold(hot, *attempt(owner), 2)
    assert hot.drop_holds(2) == 2
    assert hot.drop_holds(2) == 1
    assert hot.drop_holds(2) == 0
    assert balance(owner)[:2] == (10, 0)
    is_in_order(owner)


def test_a_price_above_the_balance_takes_what_is_there_and_notes_the_rest(owner):
    give(owner, 10)
    key, payer = attempt(owner)
    assert charge(key, payer, 25, held=False) == (10, 15, 10)
    last = transactions(owner)[-1]
    assert (last.amount, last.unpaid, last.balance) == (-10, 15, 0)
    is_in_order(owner)


def test_the_same_attempt_cannot_be_charged_twice(owner):
    give(owner, 10)
    key, payer = attempt(owner)
    charge(key, payer, 3, held=False)
    with pytest.raises(AgentFlowError):
        charge(key, payer, 3, held=False)
    assert balance(owner).balance == 7
    is_in_order(owner)


def test_an_owner_spends_no_more_a_day_than_their_limit(owner, hot):
    give(owner, 100)
    key, payer = attempt(owner)
    assert hold(hot, key, payer, 6, 10)[0] == "held"
    assert hold(hot, *attempt(owner), 5, 10)[:2] == ("limit", 4)
    charge(key, payer, 10)
    assert hold(hot, *attempt(owner), 0, 10)[:2] == ("limit", 0)
    with transaction() as session:
        store.set_daily_limit(session, owner, 12)
    assert hold(hot, *attempt(owner), 2, 10)[0] == "held"
    with transaction() as session:
        session.execute(text("UPDATE credit_balances SET day = day - 1"))
    assert balance(owner).spent == 0
    assert hold(hot, *attempt(owner), 11)[:2] == ("limit", 10), "2 are held back"
    assert hold(hot, *attempt(owner), 10)[0] == "held"
    is_in_order(owner)


def test_an_empty_balance_starts_nothing_that_is_paid_by_its_use(owner, hot):
    assert hold(hot, *attempt(owner), 0) == ("short", 0, True)
    assert hold(hot, *attempt(owner), 0) == ("short", 0, False), "told once"
    give(owner, 1)
    assert hold(hot, *attempt(owner), 0)[0] == "held"
    assert hold(hot, *attempt(owner), 2) == ("short", 1, True), "and again after it was topped up"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["give", "hold", "hold again", "settle", "settle again", "post", "drop"]),
            st.integers(1, 60),
        ),
        max_size=25,
    )
)
def test_whatever_happens_the_balance_is_the_sum_and_not_negative(environment, hot, acts):
    with transaction() as session:
        owner = accounts.add_user(session, "owner")
    held = []
    for act, amount in acts:
        if act == "give":
            give(owner, amount)
        elif act == "hold":
            key, payer = attempt(owner)
            if hold(hot, key, payer, amount, 200).verdict == "held":
                held.append((key, payer))
        elif act == "hold again" and held:
            key, payer = held[-1][0], held.pop()[1]._replace(token=new_token())
            hold(hot, key, payer, amount, 200)
            held.append((key, payer))
        elif act == "settle" and held:
            charge(*held.pop(0), amount)
        elif act == "settle again" and held:  # and it is tried anew, before that is posted
            key, payer = held[0]
            charge(key, payer, amount)
            held[0] = (key, payer._replace(token=new_token()))
        elif act == "post":
            hot.post_some(10, None)
        elif act == "drop":
            hot.drop_holds(100)
        with transaction() as session:
            assert store.disagreements(session, 10) == []
    is_in_order(owner)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_at_once_the_ledger_adds_up(owner, seed):
    give(owner, 60)
    keys = [ExecutionKey(new_id(), 0, 1) for _ in range(3)]  # which several attempts share: lost ones go on

    def acts(number):
        rng, connection = Random(seed * 100 + number), HotConnection()
        for _ in range(25):
            act = rng.choice(["run", "run", "run", "stale", "post", "drop", "give"])
            if act == "give":
                give(owner, rng.randint(1, 9))
            elif act == "post":
                connection.post_some(5, 20)
            elif act == "drop":
                connection.drop_holds(5)
            else:
                key, payer = attempt(owner)
                key = rng.choice(keys) if act == "stale" else key
                price = rng.randint(0, 6)
                if hold(connection, key, payer, price, 500, 20).verdict == "held" and rng.random() < 0.9:
                    settle(key, payer, rng.randint(0, 8), held=price > 0)
        connection.close()
        return True

    def settle(key, payer, price, *, held):
        while True:
            try:
                return charge(key, payer, price, held=held, low=20)
            except Unavailable as error:
                if not isinstance(error.__cause__.orig, SerializationFailure):  # else sent again, as a worker does
                    raise

    assert all(at_once(8, acts))
    is_in_order(owner)


def test_the_ledger_refuses_to_be_changed(owner):
    give(owner, 5)
    for statement in ("UPDATE credit_transactions SET amount = 6", "DELETE FROM credit_transactions"):
        with pytest.raises(AgentFlowError), transaction() as session:
            session.execute(text(statement))
    is_in_order(owner)


def test_a_balance_that_was_tampered_with_is_found(owner):
    give(owner, 5)
    with transaction() as session:
        session.execute(text("UPDATE credit_balances SET balance = 6"))
        (found,) = store.disagreements(session, 10)
        session.rollback()
    assert (str(owner) in found, "is 6" in found, "add up to 5" in found) == (True, True, True)


def test_a_charge_that_is_missing_is_found(owner):
    give(owner, 5)
    key, payer = attempt(owner)
    charge(key, payer, 3, held=False)
    with transaction() as session:
        session.execute(text("UPDATE node_executions SET stats = jsonb_build_object('charged', 4)"))
        (found,) = store.disagreements(session, 10)
        session.rollback()
    assert f"{key.run_id}/0/1 notes 4 credits, the ledger has 3" in found


def test_nobody_has_more_credits_than_can_be_counted(owner):
    with transaction() as session:
        ledger.top_up(session, owner, store.MOST, "much", "1")
        with pytest.raises(Conflict):
            ledger.top_up(session, owner, 1, "more", "2")
    is_in_order(owner)


def test_a_payment_with_another_amount_or_user_is_refused(owner):
    with transaction() as session:
        other = accounts.add_user(session, "other")
        first = ledger.top_up(session, owner, 5, "paid", "1")
        again = ledger.top_up(session, owner, 5, "paid", "1")
        assert (first.replayed, again.replayed) == (False, True)
        assert first.transaction is again.transaction
        for someone, amount in ((owner, 6), (other, 5)):
            with pytest.raises(IdempotencyMismatch):
                ledger.top_up(session, someone, amount, "paid", "1")
        with pytest.raises(NotFound):
            ledger.top_up(session, new_id(), 5, "paid", "2")
    assert len(transactions(owner)) == 1
    assert isinstance(transactions(owner)[0], CreditTransaction)


@pytest.fixture
def crossings(environment):
    """`crossings(owner)`: how often an owner came to be low on credits, and short of them, as their rows tell."""
    with transaction() as session:
        session.execute(
            text(
                """
                CREATE TABLE crossings (owner_id uuid, what text);
                CREATE FUNCTION note_crossing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    IF OLD.low_since IS NULL AND NEW.low_since IS NOT NULL THEN
                        INSERT INTO crossings VALUES (NEW.owner_id, 'low');
                    END IF;
                    IF OLD.short_since IS NULL AND NEW.short_since IS NOT NULL THEN
                        INSERT INTO crossings VALUES (NEW.owner_id, 'short');
                    END IF;
                    RETURN NULL;
                END $$;
                CREATE TRIGGER note_crossing AFTER UPDATE ON credit_balances
                    FOR EACH ROW EXECUTE FUNCTION note_crossing();
                """
            )
        )

    def count(owner):
        with transaction() as session:
            rows = session.execute(text("SELECT what FROM crossings WHERE owner_id = :owner"), {"owner": owner})
            found = Counter(what for (what,) in rows)
        return found["low"], found["short"]

    yield count
    with transaction() as session:
        session.execute(text("DROP TRIGGER note_crossing ON credit_balances"))
        session.execute(text("DROP FUNCTION note_crossing(); DROP TABLE crossings"))


def give_above(owner, amount, low):
    with transaction() as session:
        store.give(session, Gift(owner, TransactionType.GRANT, amount, "a gift", str(uuid4())), low)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("give"), st.integers(1, 30), st.just(0)),
        st.tuples(st.just("spend"), st.integers(0, 20), st.integers(0, 25)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(low=st.one_of(st.none(), st.integers(1, 40)), steps=steps)
def test_an_owner_is_low_once_until_they_are_given_enough_and_short_once_until_they_are_given_some(
    crossings, hot, low, steps
):
    with transaction() as session:
        owner = accounts.add_user(session, f"owner {uuid4()}")
    balance_, is_low, is_short, lows, shorts = 0, False, False, 0, 0

    def fell():
        nonlocal is_low, lows
        if low is not None and balance_ < low and not is_low:
            is_low, lows = True, lows + 1

    def lacked():
        nonlocal is_short, shorts
        shorts += not is_short
        is_short = True

    for what, first, second in steps:
        if what == "give":
            give_above(owner, first, low)
            balance_ += first
            is_short = False
            is_low = is_low and low is not None and balance_ < low
            continue
        key, payer = attempt(owner)
        held = hold(hot, key, payer, first, None, low)
        if balance_ < first or balance_ == 0:
            assert (held.verdict, held.first) == ("short", not is_short)
            lacked()
            continue
        assert charge(key, payer, second, low=low).missing == max(second - balance_, 0)
        if second > balance_:
            lacked()
        if second:
            taken = min(second, balance_)
            balance_ -= taken
            if taken:
                fell()
    assert balance(owner, low).balance == balance_
    assert crossings(owner) == (lows, shorts)


def test_of_many_spenders_at_once_one_crosses(crossings, owner):
    for _ in range(5):
        give_above(owner, 100, 60)
        before = crossings(owner)

        def spend(_):
            connection = HotConnection()
            key, payer = attempt(owner)
            held = hold(connection, key, payer, 3, None, 60)
            connection.close()
            if held.verdict == "held":
                charge(key, payer, 3, low=60)
            return held.first

        firsts = at_once(40, spend)
        assert sum(firsts) == 1
        assert balance(owner, 60).balance < 3
        assert crossings(owner) == (before[0] + 1, before[1] + 1)
