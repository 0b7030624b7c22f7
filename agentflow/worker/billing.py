"""Holds back and prices what one attempt costs. While credits are off it only counts, for budgets and statistics."""

import logging
from collections.abc import Mapping
from math import ceil
from typing import Any

from agentflow.blocks.base import Block
from agentflow.clock import monotonic
from agentflow.credits import pricing
from agentflow.credits.model_prices import model_prices
from agentflow.credits.pricing import FREE
from agentflow.engine.execution import ExecutionKey
from agentflow.engine.settlement import Charge, Transition
from agentflow.engine.statuses import NodeStatus
from agentflow.errors import Unpaid
from agentflow.graph.costs import CostType
from agentflow.graph.plan import PlanNode
from agentflow.settings import settings
from agentflow.storage.hot.node_executions import HotConnection, Payer

logger = logging.getLogger(__name__)


class Tab:
    """What one attempt costs."""

    __slots__ = ("_began", "_bill", "_node", "_payer")

    def __init__(self, payer: Payer, node: PlanNode) -> None:
        self._payer = payer
        self._node = node
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
        hold = hot.hold_credits(key, self._payer, price, settings().credits_daily_limit, settings().credits_low)
        if hold.verdict == "held":
            return
        if hold.first:  # once until the owner is given credits
            logger.warning("credits_short", extra={"owner": str(self._payer.owner_id), "run": str(key.run_id)})
        what = f"{price} credits" if price else "credits by what it uses"
        wanted = f"{self._node.block_name} ({self._node.id}) costs {what}"
        if hold.verdict == "short":
            raise Unpaid(f"{wanted}, and the balance is {hold.balance}")
        raise Unpaid(f"{wanted}, and {hold.balance} are left of the limit a day")

    def close(self, stats: Mapping[str, float], transition: Transition) -> tuple[int, Charge | None]:
        """The price of the attempt beside the `cost` that its block reported, and what its owner is charged in all.

        Args:
            stats: what the block reported.
            transition: how the attempt ends.
        """
        seconds = monotonic() - self._began
        used = pricing.used(self._bill, stats, seconds)
        is_completed = transition.status is NodeStatus.COMPLETED
        price = pricing.completed(self._bill, stats, seconds) if is_completed else used
        if not settings().credits:
            return price, None
        reported = ceil(stats.get("cost", 0))
        # What waits goes on as the same attempt, and keeps what is held for it.
        held = self._bill.before > 0 and transition.status is not NodeStatus.WAITING
        if not (reported or price or used or held):
            return price, None
        return price, self._charge(reported + price, reported + used, held)

    def nothing(self) -> Charge | None:
        """The charge of an attempt of which nothing can be recorded: what is held for it is given back."""
        if not settings().credits or not self._bill.before:
            return None
        return self._charge(0, 0, True)

    def _charge(self, amount: int, used: int, held: bool) -> Charge:
        payer = self._payer
        return Charge(
            owner=str(payer.owner_id),
            token=str(payer.token),
            attempt=payer.attempt,
            node_id=payer.node_id,
            block=payer.block,
            amount=amount,
            used=used,
            held=held,
            low=settings().credits_low,
        )

    def _can_cost(self) -> bool:
        cost = self._bill.cost
        return cost is not None and (cost.amount > 0 or self._bill.before > 0 or cost.type is CostType.TOKENS)
