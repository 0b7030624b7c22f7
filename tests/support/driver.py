"""Claims and settles by hand, for tests of what the storage promises: no worker, no block, one call a step."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from agentflow.engine.codec import dumps, loads
from agentflow.engine.execution import ExecutionKey, Lease
from agentflow.engine.routing import Batch, Router
from agentflow.engine.settlement import COMPLETED, FLUSHED, Transition, settlement
from agentflow.graph.plan import Plan
from agentflow.ids import new_token
from agentflow.storage.hot.node_executions import Claim, HotConnection, Loss, Settled
from agentflow.storage.tables import Delivery, NodeExecution, Output


class Driver:
    """One run of a hand-made plan."""

    def __init__(self, hot: HotConnection, session_of: Callable[[], Session], plan: Plan, run_id: UUID) -> None:
        self.hot, self.plan, self.run_id, self._session_of = hot, plan, run_id, session_of

    def claim(self, node: int, idx: int, *, lease: float = 60, holder: str = "me") -> tuple[UUID, Claim]:
        given = Lease(new_token(), holder, lease)
        return given.token, self.hot.claim(self.key(node, idx), list(self.plan.nodes[node].pins), given)

    def key(self, node: int, idx: int) -> ExecutionKey:
        return ExecutionKey(self.run_id, node, idx)

    def settle(
        self,
        node: int,
        idx: int,
        token: UUID,
        *outputs: tuple[str, object],
        first: int = 0,
        change: Transition = COMPLETED,
    ) -> Settled:
        batch = Batch(first=first)
        router = Router(self.plan.nodes[node])
        for pin, value in outputs:
            router.add(batch, pin, value, dumps(value))
        lease = Lease(token, "me", 60)
        return self.hot.settle(settlement(self.plan, self.key(node, idx), lease, batch, change))

    def return_lease(
        self,
        node: int,
        idx: int,
        token: UUID,
        *,
        bearable: int | None = 3,
        expired: bool = False,
        new: UUID | None = None,
    ) -> Loss:
        heir = Lease(new or new_token(), "keeper", 60)
        return self.hot.return_lease(self.key(node, idx), token, heir, expired=expired, bearable=bearable)

    def run(self, node: int, idx: int, *outputs: tuple[str, object], change: Transition = COMPLETED) -> Settled:
        """Claim a node execution and settle it with these outputs."""
        token, claimed = self.claim(node, idx)
        assert claimed.verdict == "claimed"
        return self.settle(node, idx, token, *outputs, change=change)

    def yields(self, node: int) -> Callable[..., Settled]:
        """Claims the first execution of a node; each call of the result flushes outputs of it."""
        token, claimed = self.claim(node, 1)
        assert claimed.verdict == "claimed"
        emitted = 0

        def flush(*outputs: tuple[str, object]) -> Settled:
            nonlocal emitted
            settled = self.settle(node, 1, token, *outputs, first=emitted, change=FLUSHED)
            assert settled.verdict == "landed"
            emitted += len(outputs)
            return settled

        return flush

    def at(self, node: int) -> dict[int, tuple[str, dict[str, Any]]]:
        """The executions of a node: index → its status, and what has arrived at its pins."""
        with self._session_of() as session:
            found: dict[int, tuple[str, dict[str, Any]]] = {
                idx: (status, {})
                for idx, status in session.execute(
                    select(NodeExecution.idx, NodeExecution.status)
                    .where(NodeExecution.run_id == self.run_id, NodeExecution.node == node)
                    .order_by(NodeExecution.idx)
                )
            }
            for idx, pin, value in session.execute(
                select(Delivery.idx, Delivery.pin, Output.value)
                .join(
                    Output,
                    (Output.run_id == Delivery.run_id)
                    & (Output.node == Delivery.source_node)
                    & (Output.idx == Delivery.source_idx)
                    & (Output.ordinal == Delivery.source_ordinal)
                    & (Output.part == Delivery.source_part),
                )
                .where(Delivery.run_id == self.run_id, Delivery.node == node)
            ):
                found[idx][1][pin] = loads(value)
        return found

    def arrived(self, node: int, pin: str) -> list[Any]:
        """What has arrived at a pin, in the order of the executions that have it."""
        return [values[pin] for _, values in self.at(node).values() if pin in values]
