"""Defines what a block costs, as its author declares it. `credits/pricing.py` turns that into prices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

MOST_AMOUNT: Final = 10**9
"""Credits; the same bound holds for a divisor."""


class CostType(StrEnum):
    """What a cost is counted by."""

    RUN = "run"  # each node execution
    BYTE = "byte"  # the size of its inputs as JSON
    SECOND = "second"  # how long the block ran
    ITEMS = "items"  # what it reported as `items`
    TOKENS = "tokens"  # what it reported as `input_tokens`, `output_tokens`, …, by the price of its model
    COST_USD = "cost_usd"  # the dollars that it reported as `cost_usd`


RESERVED: Final = frozenset({CostType.RUN, CostType.BYTE, CostType.TOKENS})
"""What has a price before the block runs."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One entry of a block's list of costs.

    Attributes:
        amount: credits: for `run` each time, for `byte`, `second` and `items` per `divisor` of them, for `cost_usd` per
            dollar, for `tokens` where the model's price is unknown.
        type: what it is counted by.
        divisor: how many bytes, seconds or items `amount` is for; at least 1.
        filter: a subset of the inputs that must match, at every depth; a value that counts as false fits a missing one.
    """

    amount: int
    type: CostType = CostType.RUN
    divisor: int = 1
    filter: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value, least in (("amount", self.amount, 0), ("divisor", self.divisor, 1)):
            if type(value) is not int or not least <= value <= MOST_AMOUNT:
                raise ValueError(f"a cost's {name} is a whole number from {least} to {MOST_AMOUNT}, not {value!r:.50}")
        object.__setattr__(self, "type", CostType(self.type))

    def __hash__(self) -> int:
        return hash((self.amount, self.type, self.divisor))

    def as_json(self) -> dict[str, Any]:
        """The public description, with the names that graph editors know."""
        return {
            "cost_amount": self.amount,
            "cost_type": str(self.type),
            "cost_divisor": self.divisor,
            "cost_filter": dict(self.filter),
        }


def costs_of(declared: int | Sequence[Cost]) -> tuple[Cost, ...]:
    """The costs that a block declares; a number stands for so many credits each time."""
    if isinstance(declared, int):
        return (Cost(declared),) if declared else ()
    return tuple(declared)


def matches(wanted: Any, given: Any) -> bool:
    """Whether `wanted` is a subset of `given`, at every depth; what counts as false fits a missing value."""
    if isinstance(wanted, Mapping) and (isinstance(given, Mapping) or not given):
        inputs = given or {}
        return all(matches(value, inputs.get(name)) for name, value in wanted.items())
    if not wanted and not given:
        return True
    return type(wanted) is type(given) and bool(wanted == given) if _is_bool(wanted, given) else bool(wanted == given)


def matching(costs: Sequence[Cost], inputs: Mapping[str, Any]) -> Cost | None:
    """The first cost whose filter matches; None: it is free."""
    return next((cost for cost in costs if matches(cost.filter, inputs)), None)


def _is_bool(*values: object) -> bool:
    """Whether one is a truth value, which Python takes for a number."""
    return any(isinstance(value, bool) for value in values)
