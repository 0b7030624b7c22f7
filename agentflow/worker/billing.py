"""Holds back and prices what one attempt costs. While credits are off it only counts, for budgets and statistics."""

import logging
from collections.abc import Mapping
from math import ceil
from typing import Any
from uuid import UUID

from agentflow.blocks.base import Block
from agentflow.blocks.registry import catalogue
from agentflow.clock import monotonic
from agentflow.credits import pricing
from agentflow.credits.model_prices import model_prices
from agentflow.credits.pricing import FREE
from agentflow.engine.execution import ExecutionKey, Lease
from agentflow.engine.settlement import Charge, Transition
from agentflow.engine.statuses import NodeStatus
from agentflow.errors import Unpaid
from agentflow.graph.costs import CostType
from agentflow.graph.plan import PlanNode
from agentflow.settings import settings
from agentflow.storage.hot.node_executions import Claim, HotConnection, Price

logger = logging.getLogger(__name__)


def price_ahead(owner_id: UUID, node: PlanNode) -> Price | None:
    """The price of a node execution, if it is known before its inputs: holding it with the claim saves a round trip.

    What may come from the cache, or has inputs that decide, is priced when it is loaded.
    """
    if not settings().credits or node.settings.cache is not None:
        return None
    spec = catalogue(node.block_id)
    if spec is None or not spec.costs or spec.gathers is not None:
        return None
    cost = spec.costs[0]
    if cost.type is not CostType.RUN or cost.filter or not cost.amount:
        return None
    return _price(owner_id, cost.amount)


def _price(owner_id: UUID, amount: int) -> Price:
    return Price(owner_id, amount, settings().credits_daily_limit, settings().credits_low)


class Tab:
    """What one attempt costs."""

    __slots__ = ("_attempt", "_began", "_bill", "_hold", "_holds", "_node", "_owner_id", "_token")

    def __init__(self, owner_id: UUID, node: PlanNode, lease: Lease, claim: Claim) -> None:
        self._owner_id = owner_id
        self._node = node
        self._token = lease.token
        self._attempt = claim.attempt
        self._hold = claim.hold
        self._holds = claim.hold is not None and claim.hold.verdict == "held"
        self._bill = FREE
        self._began = 0.0

    def open(self, hot: HotConnection, key: ExecutionKey, block: Block, inputs: Mapping[str, Any]) -> None:
        """Begin to count, and hold back what the block costs before it runs.

        Raises:
            Unpaid: the owner lacks that.
            Unavailable: PostgreSQL does not answer.
        """
        spec = block.spec()
        given = {name: pin.default for name, pin in spec.inputs.items() if not pin.required} | dict(inputs)
        self._bill = pricing.bill(spec.costs, given, model_prices(settings().model_prices))
        self._began = monotonic()
        if not settings().credits or not self._can_cost():
            return
        price = self._bill.before
        hold = self._hold or hot.hold_credits(key, _price(self._owner_id, price))
        if hold.verdict == "held":
            self._holds = price > 0
            return
        if hold.first:  # once until the owner is given credits
            logger.warning("credits_short", extra={"owner": str(self._owner_id), "run": str(key.run_id)})
        what = f"{price} credits" if price else "credits by what it uses"
        wanted = f"{self._node.block_name} ({self._node.id}) costs {what}"
        if hold.verdict == "short":
            raise Unpaid(f"{wanted}, and the balance is {hold.available}")
        raise Unpaid(f"{wanted}, and {hold.available} are left of the limit a day")

    def close(self, stats: Mapping[str, float], transition: Transition) -> tuple[int, Charge | None]:
        """The price of the attempt beside the `cost` that its block reported, and what its owner is charged in all.

        Args:
            stats: what the block reported.
            transition: how the attempt ends.
        """
        if self._bill is FREE and not settings().credits:
            return 0, None
        seconds = monotonic() - self._began
        used = pricing.used(self._bill, stats, seconds)
        is_completed = transition.status is NodeStatus.COMPLETED
        price = pricing.completed(self._bill, stats, seconds) if is_completed else used
        if not settings().credits:
            return price, None
        reported = ceil(stats.get("cost", 0))
        # What waits goes on as the same attempt, and keeps what is held for it.
        held = self._holds and transition.status is not NodeStatus.WAITING
        if not (reported or price or used or held):
            return price, None
        return price, self._charge(reported + price, reported + used, held)

    def nothing(self) -> Charge | None:
        """The charge of an attempt of which nothing can be recorded: what is held for it is let go of."""
        if not self._holds:
            return None
        return self._charge(0, 0, True)

    def _charge(self, amount: int, used: int, held: bool) -> Charge:
        return Charge(
            owner=str(self._owner_id),
            token=str(self._token),
            attempt=self._attempt,
            node_id=self._node.id,
            block=self._node.block_name,
            amount=amount,
            used=used,
            held=held,
            low=settings().credits_low,
        )

    def _can_cost(self) -> bool:
        cost = self._bill.cost
        return cost is not None and (cost.amount > 0 or self._bill.before > 0 or cost.type is CostType.TOKENS)
