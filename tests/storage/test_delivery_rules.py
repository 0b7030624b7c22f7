"""Does the database deliver as semantics.md §4 and §7 read? It is held against a model that follows their words.

Random graphs, with cycles, self-loops, pins fed by several nodes, static and mixed pins, input nodes that are also
linked, and pins that first executions do not wait for, are driven settle by settle in random order, with flushes,
failures, lost leases and duplicates; after every step the executions and deliveries of database and model are compared.
Then the same with threads, where each pin is fed by one node and each static pin gets one value: the outcome may not
depend on who was faster.
"""

import random
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from agentflow.engine.codec import dumps
from agentflow.engine.routing import Batch, Router
from agentflow.graph.catalogue import BlockKind
from agentflow.graph.plan import Plan, PlanLink, PlanNode
from agentflow.graph.settings import GraphSettings, NodeSettings
from agentflow.ids import new_id, new_token
from agentflow.storage.node_executions import Change, HotConnection
from agentflow.storage.runs import Ready
from agentflow.storage.tables import Delivery, NodeExecution

Reference = tuple[int, int, int]  # node, index, ordinal
MAX_EXECUTIONS = 60  # of a run: cycles stop yielding then


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
    """The words of semantics.md, one by one, without a thought for speed."""

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
    reply = hot.claim(run_id, node, idx, list(plan.nodes[node].pins), token, "test", 60)
    return Claimed(node, idx, token, reply.emitted) if reply.verdict == "claimed" else None


def lose(hot: HotConnection, run_id: UUID, claimed: Claimed) -> tuple[str, int | None, int | None]:
    return hot.lose(
        run_id,
        claimed.node,
        claimed.idx,
        claimed.token,
        expired=False,
        bearable=99,
        new_token=new_token(),
        holder="test",
        lease=60,
    )


def settle(
    hot: HotConnection, plan: Plan, run_id: UUID, claimed: Claimed, pins: list[str], change: Change
) -> tuple[str, list[Ready]]:
    ordered = bool(plan.nodes[claimed.node].links)
    reply = hot.settle(
        plan, run_id, claimed.node, claimed.idx, claimed.token, batch_of(plan, claimed, pins), change, 60, ordered
    )
    ready, go_on = list(reply.ready), reply.go_on
    while go_on is not None:
        more, go_on = hot.release(run_id, claimed.node, go_on)
        ready += more
    if reply.verdict == "landed":
        claimed.emitted += len(pins)
    return reply.verdict, ready


@pytest.mark.parametrize("seed", range(70))
def test_every_step_leaves_what_the_words_say(
    seed: int, hot: HotConnection, start: Callable[..., tuple[UUID, list[Ready]]], session_of: Callable[[], Session]
) -> None:
    chance = random.Random(seed)
    plan = random_plan(chance, deterministic=False, with_feedback=seed >= 40)
    run_id, queued = start(plan)
    model = Model(plan)
    running: list[Claimed] = []
    with session_of() as session:
        while queued or running:
            if queued and (not running or chance.random() < 0.6):
                node, idx = queued.pop(chance.randrange(len(queued)))
                claimed = claim(hot, plan, run_id, node, idx)
                assert claimed is not None
                assert claim(hot, plan, run_id, node, idx) is None, "a duplicate message claims nothing"
                running.append(claimed)
                continue
            claimed = running.pop(chance.randrange(len(running)))
            if chance.random() < 0.15:
                verdict, *_ = lose(hot, run_id, claimed)
                assert verdict == "queued"
                assert settle(hot, plan, run_id, claimed, ["x"], Change("COMPLETED"))[0] == "lost", "a zombie settles"
                queued.append(Ready(claimed.node, claimed.idx))
                continue
            flush = chance.random() < 0.3
            yields = chance.randint(0, 3) if model.count() < MAX_EXECUTIONS else 0
            pins = [chance.choice("xyz") for _ in range(max(yields, 1) if flush else yields)]
            if flush and model.count() >= MAX_EXECUTIONS:
                pins = ["z"]  # no link takes it
            status = None if flush else chance.choice(["COMPLETED", "COMPLETED", "FAILED"])
            change = Change(status, *(("block", "it failed") if status == "FAILED" else ()))
            verdict, ready = settle(hot, plan, run_id, claimed, pins, change)
            assert verdict == "landed"
            if flush:
                running.append(claimed)
            before = {key for key, value in model.state()[0].items() if value == "QUEUED"}
            model.settle(claimed.node, claimed.idx, pins, status)
            after = {key for key, value in model.state()[0].items() if value == "QUEUED"}
            assert {tuple(item) for item in ready} == after - before
            assert len(ready) == len(set(ready))
            queued += ready
            statuses, deliveries = stored_state(session, run_id)
            session.rollback()
            expected_statuses, expected_deliveries = model.state()
            claimed_now = {(item.node, item.idx) for item in running}
            # The model does not know RUNNING: what is claimed is QUEUED there.
            assert statuses == {
                key: "RUNNING" if key in claimed_now else value for key, value in expected_statuses.items()
            }
            assert deliveries == expected_deliveries
        assert hot.quiescent(run_id)


def yields_of(seed: int, node: int, idx: int, budget: int) -> list[str]:
    """What an execution yields: the same for every order of events. Cycles die out as the index grows."""
    chance = random.Random(f"{seed}/{node}/{idx}")
    if node == 0:
        return ["x"]
    if idx > budget:
        return []
    return [chance.choice("xyz") for _ in range(chance.choice([0, 1, 1, 2, 3]))]


@pytest.mark.parametrize("seed", range(18))
def test_who_is_faster_does_not_change_the_outcome(
    seed: int,
    database_url: str,
    start: Callable[..., tuple[UUID, list[Ready]]],
    session_of: Callable[[], Session],
) -> None:
    plan = random_plan(random.Random(seed), deterministic=True, with_feedback=seed >= 12)
    model = Model(plan)
    while pending := [
        (node, idx)
        for node, executions in model.executions.items()
        for idx, execution in enumerate(executions, start=1)
        if execution.status == "QUEUED"
    ]:
        for node, idx in pending:
            model.settle(node, idx, yields_of(seed, node, idx, 6), "COMPLETED")

    run_id, ready = start(plan)
    errors: list[BaseException] = []
    queue = list(ready)
    lock = threading.Lock()
    busy = 0
    ends = 0

    def work(number: int) -> None:
        nonlocal busy, ends
        chance = random.Random(seed * 100 + number)
        hot = HotConnection(database_url)
        try:
            while True:
                with lock:
                    if not queue and not busy:
                        return
                    item = queue.pop(chance.randrange(len(queue))) if queue else None
                    busy += item is not None
                if item is None:
                    threading.Event().wait(0.001)
                    continue
                found: list[Ready] = []
                try:
                    claimed = claim(hot, plan, run_id, *item)
                    if claimed is None:
                        continue
                    pins = yields_of(seed, item.node, item.idx, 6)[claimed.emitted :]
                    if pins and chance.random() < 0.4:
                        verdict, found = settle(hot, plan, run_id, claimed, pins[:1], Change(None))
                        assert verdict == "landed"
                        pins = pins[1:]
                    if chance.random() < 0.15:
                        lose(hot, run_id, claimed)
                        found.append(item)
                        continue
                    verdict, ready = settle(hot, plan, run_id, claimed, pins, Change("COMPLETED"))
                    assert verdict == "landed"
                    found += ready
                    if chance.random() < 0.1:
                        found.append(item)  # a duplicate message
                    if not ready and hot.quiescent(run_id):
                        with lock:
                            ends += 1
                finally:
                    with lock:
                        queue.extend(found)
                        busy -= 1
        except BaseException as error:
            errors.append(error)
        finally:
            hot.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not errors
    assert ends >= 1, "somebody must notice the end"
    with session_of() as session:
        assert stored_state(session, run_id) == model.state()
