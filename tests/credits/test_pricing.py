"""Prices follow the table of docs/credits.md: whole, rounded up, and never below 0."""

from decimal import Decimal
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.credits import pricing
from agentflow.credits.model_prices import ModelPrice
from agentflow.engine.codec import dumps
from agentflow.graph.costs import MOST_AMOUNT, Cost, CostType, costs_of, matches, matching

PRICES = {"m": ModelPrice(flat=7, input=250.0, output=1000.0, cache_read=12.5, cache_write=3.0)}

amounts = st.integers(0, MOST_AMOUNT)
divisors = st.integers(1, MOST_AMOUNT)
counts = st.integers(0, 10**15)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "a", "b"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
inputs = st.dictionaries(st.sampled_from(["a", "b", "model"]), values, max_size=3)


def price(cost, given_inputs=None, stats=None, seconds=0.0):
    """Before, after it completed, after it failed."""
    bill = pricing.bill((cost,), given_inputs or {}, PRICES)
    return bill.before, pricing.completed(bill, stats or {}, seconds), pricing.used(bill, stats or {}, seconds)


@given(amounts)
def test_a_run_costs_its_amount_and_nothing_if_it_failed(amount):
    assert price(Cost(amount), {"a": 1}, {"items": 3}, 9.0) == (amount, amount, 0)


@given(st.integers(0, 100), st.integers(1, 100), inputs)
def test_bytes_are_those_of_the_inputs_as_json(amount, divisor, given_inputs):
    size = len(dumps(given_inputs).encode())
    expected = ceil(Fraction(size, divisor)) * amount
    assert price(Cost(amount, CostType.BYTE, divisor), given_inputs) == (expected, expected, 0)


@given(amounts, divisors, counts)
def test_items_are_paid_by_what_was_reported_whether_or_not_it_failed(amount, divisor, count):
    expected = min(ceil(Fraction(count, divisor)) * amount, pricing.MOST)
    assert price(Cost(amount, CostType.ITEMS, divisor), stats={"items": count}) == (0, expected, expected)


@given(amounts, divisors, st.floats(0, 10**7, allow_nan=False))
def test_each_second_that_is_begun_is_paid(amount, divisor, seconds):
    exact = Fraction(Decimal(repr(seconds)).quantize(Decimal("1e-9")))
    expected = min(ceil(exact / divisor) * amount, pricing.MOST)
    assert price(Cost(amount, CostType.SECOND, divisor), seconds=seconds) == (0, expected, expected)


@given(amounts, st.integers(0, 10**9))
def test_dollars_are_paid_to_the_credit_above(amount, millionths):
    expected = min(ceil(Fraction(millionths, 10**6) * amount), pricing.MOST)
    assert price(Cost(amount, CostType.COST_USD), stats={"cost_usd": millionths / 10**6}) == (0, expected, expected)


def test_sums_of_floats_are_not_rounded_up_by_their_noise():
    assert price(Cost(100, CostType.COST_USD), stats={"cost_usd": 0.1 + 0.2})[1] == 30


@given(counts, counts, counts, counts)
def test_tokens_cost_their_kinds_rates(input_, output, read, write):
    stats = {
        "input_tokens": input_,
        "output_tokens": output,
        "cache_read_tokens": read,
        "cache_write_tokens": write,
    }
    sum_ = input_ * 250 + output * 1000 + read * Fraction(25, 2) + write * 3
    expected = min(ceil(sum_ / 10**6), pricing.MOST)
    assert price(Cost(5, CostType.TOKENS), {"model": " m "}, stats) == (7, expected, expected)


@given(amounts, counts)
def test_an_unknown_model_costs_the_flat_price(amount, count):
    cost = Cost(amount, CostType.TOKENS)
    assert price(cost, {"model": "?"}, {"input_tokens": count}) == (amount, amount, 0)
    assert price(cost, {"model": {"m": 1}}) == price(cost, {}) == (amount, amount, 0)


@given(inputs, st.data())
def test_every_part_of_the_inputs_is_a_filter_that_matches_them(given_inputs, data):
    def part(value):
        if isinstance(value, dict):
            kept = [name for name in value if data.draw(st.booleans())]
            return {name: part(value[name]) for name in kept}
        return value

    assert matches(part(given_inputs), given_inputs)


@given(inputs, values.filter(bool))
def test_what_is_missing_is_matched_by_what_counts_as_false_only(given_inputs, wanted):
    assert all(matches({"z": false}, given_inputs) for false in (None, False, "", 0, {}))

    def holds(value):
        return any(map(holds, value.values())) if isinstance(value, dict) else bool(value)

    assert matches({"z": wanted}, given_inputs) == (not holds(wanted))


@pytest.mark.parametrize(
    ("wanted", "given_inputs", "fits"),
    [
        ({"credentials": {"id": "s"}}, {"credentials": {"id": "s", "type": "api_key"}}, True),
        ({"credentials": {"id": "s"}}, {"credentials": {"id": "t"}}, False),
        ({"credentials": {"id": "s"}}, {"credentials": "s"}, False),
        ({"fast": True}, {"fast": 1}, False),
        ({"fast": True}, {"fast": True}, True),
        ({"n": 1}, {"n": 1.0}, True),
        ({"a": [1]}, {"a": [1, 2]}, False),
    ],
)
def test_filters_look_into_objects(wanted, given_inputs, fits):
    assert matches(wanted, given_inputs) == fits


def test_the_first_that_matches_counts():
    costs = (Cost(1, filter={"a": 1}), Cost(2, filter={"a": 2}), Cost(3))
    assert [matching(costs, {"a": a}).amount for a in (1, 2, 3)] == [1, 2, 3]
    assert matching(costs[:2], {"a": 3}) is None
    assert pricing.bill(costs[:2], {"a": 3}, PRICES) is pricing.FREE


@pytest.mark.parametrize("amount", [-1, 1.5, "1", True, None, 10**9 + 1])
def test_a_cost_that_is_no_whole_number_of_credits_is_refused(amount):
    with pytest.raises(ValueError, match="amount"):
        Cost(amount)


@pytest.mark.parametrize("divisor", [0, -1, 1.5, "1", True])
def test_a_divisor_below_one_is_refused(divisor):
    with pytest.raises(ValueError, match="divisor"):
        Cost(1, CostType.SECOND, divisor)


def test_a_number_stands_for_so_many_credits_each_time():
    assert costs_of(4) == (Cost(4),)
    assert costs_of(0) == costs_of([]) == ()
