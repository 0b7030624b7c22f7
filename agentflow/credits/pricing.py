"""Turns costs into prices, in whole credits: before a block runs, and from what it used. Pure functions.

A price is rounded up, and never above `MOST`. Numbers that a block reported are read as their decimal text to nine
places, so that 0.1 + 0.2 dollars are 30 credits and not 31.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from math import ceil
from typing import Any, Final

from agentflow.credits.model_prices import ModelPrice, Prices, price_of
from agentflow.engine.codec import dumps
from agentflow.graph.costs import Cost, CostType, matching

MOST: Final = 10**12
"""The highest price of one attempt, in credits."""

_PLACES: Final = Decimal("1e-9")
_KINDS: Final = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_tokens": "cache_read",
    "cache_write_tokens": "cache_write",
}
"""What a block reports → the rate of its model's price."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What one attempt will cost.

    Attributes:
        cost: the cost that counts; None: it is free.
        before: credits that must be there before it runs, and are held back.
        model: the price of its model; None: it has none, or it is unknown.
    """

    cost: Cost | None = None
    before: int = 0
    model: ModelPrice | None = None


FREE: Final = Bill()


def bill(costs: tuple[Cost, ...], inputs: Mapping[str, Any], prices: Prices) -> Bill:
    """The bill of an attempt with these inputs."""
    cost = matching(costs, inputs)
    if cost is None:
        return FREE
    model = _model(inputs, prices) if cost.type is CostType.TOKENS else None
    if cost.type is CostType.RUN:
        before = cost.amount
    elif cost.type is CostType.BYTE:
        before = _units(len(dumps(dict(inputs)).encode("utf-8", "surrogatepass")), cost)
    elif cost.type is CostType.TOKENS:
        before = cost.amount if model is None or model.flat is None else model.flat
    else:
        before = 0
    return Bill(cost, min(before, MOST), model)


def used(bill: Bill, stats: Mapping[str, float], seconds: float) -> int:
    """What an attempt costs for what it used and reported, whether or not it went through to its end.

    Args:
        bill: its bill.
        stats: what it reported; `cost` is in credits, and is not counted here.
        seconds: how long its block ran.
    """
    cost = bill.cost
    if cost is None:
        return 0
    if cost.type is CostType.SECOND:
        price = _units(seconds, cost)
    elif cost.type is CostType.ITEMS:
        price = _units(stats.get("items", 0), cost)
    elif cost.type is CostType.COST_USD:
        with localcontext(prec=60):
            price = _up(_exact(stats.get("cost_usd", 0)) * cost.amount)
    elif cost.type is CostType.TOKENS and bill.model is not None:
        price = _tokens(bill.model, stats)
    else:
        price = 0
    return min(price, MOST)


def completed(bill: Bill, stats: Mapping[str, float], seconds: float) -> int:
    """What an attempt costs whose block went through to its end. See `used`."""
    cost = bill.cost
    if cost is None:
        return 0
    if cost.type in (CostType.RUN, CostType.BYTE) or (cost.type is CostType.TOKENS and bill.model is None):
        return bill.before
    return used(bill, stats, seconds)


def _model(inputs: Mapping[str, Any], prices: Prices) -> ModelPrice | None:
    name = inputs.get("model")
    return price_of(prices, name) if isinstance(name, str) else None


def _tokens(model: ModelPrice, stats: Mapping[str, float]) -> int:
    with localcontext(prec=60):
        total = sum(
            (_exact(stats.get(count, 0)) * Decimal(repr(getattr(model, rate))) for count, rate in _KINDS.items()),
            Decimal(0),
        )
        return _up(total / 10**6)


def _units(count: float, cost: Cost) -> int:
    """`amount` for each `divisor` that is begun."""
    with localcontext(prec=60):
        return _up(_exact(count) / cost.divisor) * cost.amount


def _exact(count: float) -> Decimal:
    with localcontext(prec=60):
        return Decimal(repr(count)).quantize(_PLACES)


def _up(price: Decimal) -> int:
    return max(ceil(price), 0)
