"""A model of delivery that follows docs/semantics.md (section 4); random plans, and calls that drive them."""

import random
from collections.abc import Collection
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from agentflow.engine.codec import dumps
from agentflow.engine.execution import ExecutionKey, Lease
from agentflow.engine.routing import Batch, Router
from agentflow.engine.settlement import Transition, settlement
from agentflow.graph.catalogue import BlockKind
from agentflow.graph.plan import Plan, PlanLink, PlanNode
from agentflow.graph.settings import GraphSettings, NodeSettings
from agentflow.ids import new_id, new_token
from agentflow.storage.hot.node_executions import HotConnection, Loss
from agentflow.storage.runs import Ready
from agentflow.storage.tables import Delivery, NodeExecution

Reference = tuple[int, int, int]  # node, index, ordinal


def plan_of(
    links: list[PlanLink],
    nodes: int,
    inputs: frozenset[int] = frozenset(),
    feedback: Collection[tuple[int, str]] = frozenset(),
) -> Plan:
    """A plan with these links; `inputs` are input nodes, which start even if they are linked."""
    made = []
    for number in range(nodes):
        pins: dict[str, bool] = {}
        for link in links:
            if link.sink == number:
                pins[link.sink_pin] = pins.get(link.sink_pin, False) or link.static
        is_input = number in inputs
        later = tuple(pin for pin in pins if (number, pin) in feedback)
        made.append(
            PlanNode(
                number=number,
                id=f"n{number}",
                block_id=str(uuid4()),
                block_name="Test",
                kind=BlockKind.INPUT if is_input else BlockKind.STANDARD,
                title=f"n{number}",
                input_default={},
                settings=NodeSettings(),
                pins=pins,
                base=2 if is_input and pins else 1,
                links=tuple(link for link in links if link.source == number),
                handles_errors=False,
                starts=is_input or len(pins) == len(later),
                name=f"n{number}" if is_input else None,
                feedback=later,
            )
        )
    return Plan(graph_id=new_id(), version=1, settings=GraphSettings(), nodes=tuple(made))


@dataclass
class Execution:
    """One execution in the model."""

    status: str
    inputs: dict[str, Reference] = field(default_factory=dict)
    filled: set[str] = field(default_factory=set)
    outputs: list[str] = field(default_factory=list)  # pins
    sent: int = 0


class Model:
    """The rules, one by one, without a thought for speed."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.executions: dict[int, list[Execution]] = {node.number: [] for node in plan.nodes}
        self.sticky: dict[tuple[int, str], Reference] = {}
        for node in plan.starting():
            self.executions[node.number].append(Execution("QUEUED"))
        for node in plan.primed():
            self.executions[node.number].append(Execution("INCOMPLETE"))

    def settle(self, node: int, idx: int, pins: list[str], status: str | None) -> None:
        execution = self.executions[node][idx - 1]
        execution.outputs += pins
        execution.status = status or execution.status
        self._send(node)

    def _send(self, node: int) -> None:
        """The outputs of one execution in yield order, those of k before those of k + 1."""
        for idx, execution in enumerate(self.executions[node], start=1):
            while execution.sent < len(execution.outputs):
                ordinal = execution.sent
                execution.sent += 1
                for link in self.plan.nodes[node].links:
                    if link.source_pin == execution.outputs[ordinal]:
                        self._deliver(link, (node, idx, ordinal))
            if execution.status not in ("COMPLETED", "FAILED"):
                return

    def _deliver(self, link: PlanLink, value: Reference) -> None:
        """To the oldest INCOMPLETE execution that has no value on the pin; if there is none, to a new one."""
        executions = self.executions[link.sink]
        later = link.sink_pin in self.plan.nodes[link.sink].feedback
        if later and not executions:
            raise AssertionError("the first execution of a node with a feedback pin is there from the start")
        for execution in executions[1 if later else 0 :]:
            if execution.status == "INCOMPLETE" and link.sink_pin not in execution.inputs:
                break
        else:
            execution = Execution("INCOMPLETE")
            executions.append(execution)
        execution.inputs[link.sink_pin] = value
        if link.static:
            self.sticky[link.sink, link.sink_pin] = value
        if self._try_to_complete(link.sink, execution) and link.static:
            for other in executions:
                self._try_to_complete(link.sink, other)

    def _try_to_complete(self, node: int, execution: Execution) -> bool:
        first = execution is self.executions[node][0]
        lacking = [
            pin
            for pin in self.plan.nodes[node].pins
            if pin not in execution.inputs and not (first and pin in self.plan.nodes[node].feedback)
        ]
        if execution.status != "INCOMPLETE" or any((node, pin) not in self.sticky for pin in lacking):
            return False
        for pin in lacking:
            execution.inputs[pin] = self.sticky[node, pin]
            execution.filled.add(pin)
        execution.status = "QUEUED"
        return True

    def count(self) -> int:
        return sum(len(executions) for executions in self.executions.values())

    def state(self) -> tuple[dict[tuple[int, int], str], dict[tuple[int, int, str], tuple[Reference, bool]]]:
        statuses, deliveries = {}, {}
        for node, executions in self.executions.items():
            for idx, execution in enumerate(executions, start=1):
                statuses[node, idx] = execution.status
                for pin, value in execution.inputs.items():
                    deliveries[node, idx, pin] = (value, pin in execution.filled)
        return statuses, deliveries


def random_plan(chance: random.Random, *, deterministic: bool, with_feedback: bool) -> Plan:
    """Any graph; or one in which each pin is fed by one node and each static pin gets one value."""
    nodes = chance.randint(3, 7)
    inputs = frozenset({0} | ({1} if not deterministic and chance.random() < 0.5 else set()))
    links: list[PlanLink] = []

    def link(source: int, source_pin: str, sink: int, pin: str, static: bool) -> None:
        links.append(PlanLink(len(links), source, source_pin, sink, pin, static))

    for sink in range(1, nodes):
        if deterministic and sink == 1:
            continue  # node 0 yields one value for static pins, node 1 starts everything else
        if sink == 1 and 1 in inputs and chance.random() < 0.5:
            continue
        for pin in "abc"[: chance.randint(1, 3)]:
            static = chance.random() < 0.35
            if deterministic:
                link(
                    0 if static else chance.randrange(1, nodes),
                    "x" if static else chance.choice("xy"),
                    sink,
                    pin,
                    static,
                )
                continue
            for _ in range(chance.choice([1, 1, 1, 2])):
                link(chance.randrange(nodes), chance.choice("xy"), sink, pin, static ^ (chance.random() < 0.15))
    static = {(link.sink, link.sink_pin) for link in links if link.static}
    feedback = {
        (link.sink, link.sink_pin)
        for link in links
        if with_feedback
        and link.sink not in inputs
        and (link.sink, link.sink_pin) not in static
        and chance.random() < 0.5
    }
    return plan_of(links, nodes, inputs, feedback)


def stored_state(session: Session, run_id: UUID) -> tuple[object, object]:
    """Executions and deliveries as the database has them, in the form of `Model.state`."""
    statuses = {
        (node, idx): status
        for node, idx, status in session.execute(
            select(NodeExecution.node, NodeExecution.idx, NodeExecution.status).where(NodeExecution.run_id == run_id)
        )
    }
    deliveries = {
        (row.node, row.idx, row.pin): ((row.source_node, row.source_idx, row.source_ordinal), row.filled)
        for row in session.scalars(select(Delivery).where(Delivery.run_id == run_id))
    }
    return statuses, deliveries


@dataclass
class Claimed:
    """An attempt under way."""

    node: int
    idx: int
    token: UUID
    emitted: int


def batch_of(plan: Plan, claimed: Claimed, pins: list[str]) -> Batch:
    batch = Batch(first=claimed.emitted)
    router = Router(plan.nodes[claimed.node])
    for pin in pins:
        router.add(batch, pin, pin, dumps(pin))
    return batch


def claim(hot: HotConnection, plan: Plan, run_id: UUID, node: int, idx: int) -> Claimed | None:
    token = new_token()
    key, lease = ExecutionKey(run_id, node, idx), Lease(token, "test", 60)
    reply = hot.claim(key, list(plan.nodes[node].pins), lease)
    return Claimed(node, idx, token, reply.emitted) if reply.verdict == "claimed" else None


def lose(hot: HotConnection, run_id: UUID, claimed: Claimed) -> Loss:
    key, heir = ExecutionKey(run_id, claimed.node, claimed.idx), Lease(new_token(), "test", 60)
    return hot.return_lease(key, claimed.token, heir, expired=False, bearable=99)


def settle(
    hot: HotConnection, plan: Plan, run_id: UUID, claimed: Claimed, pins: list[str], change: Transition
) -> tuple[str, list[Ready]]:
    key, lease = ExecutionKey(run_id, claimed.node, claimed.idx), Lease(claimed.token, "test", 60)
    reply = hot.settle(settlement(plan, key, lease, batch_of(plan, claimed, pins), change))
    ready, release_after = list(reply.ready), reply.release_after
    while release_after is not None:
        more, release_after = hot.release(key._replace(idx=release_after))
        ready += more
    if reply.verdict == "landed":
        claimed.emitted += len(pins)
    return reply.verdict, ready
