"""What waits survives a restart of everything, and 10,000 that wait cost a row each."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from fleet import Fleet, graph, link, node, until

from agentflow.embedded.stack import Stack
from agentflow.storage.migrate import upgrade

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(300)]


class Installation:
    """Servers, API and one worker of their own, which can all be taken down and started again."""

    def __init__(self, folder: Path) -> None:
        self._data = folder / "data"
        self._stack = Stack(self._data, durable=True)
        self._stack.__enter__()
        upgrade(self._stack.database_url)
        logs = folder / "logs"
        logs.mkdir()
        self.fleet = Fleet(self._stack.database_url, self._stack.broker_url, logs)
        self._start()

    def _start(self) -> None:
        self.fleet.start_web()
        self.fleet.ensure_workers(1)

    def restart(self) -> None:
        """Kill the API and the workers, stop PostgreSQL and Valkey, and start all of it again."""
        self.fleet.kill_all()
        self._stack.__exit__(None, None, None)
        self._stack = Stack(self._data, durable=True)
        self._stack.__enter__()
        self.fleet.database_url, self.fleet.broker_url = self._stack.database_url, self._stack.broker_url
        self._start()

    def stop(self) -> None:
        self.fleet.stop()
        self._stack.__exit__(None, None, None)


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path)
    try:
        yield made
    finally:
        made.stop()


def child_graph() -> dict[str, Any]:
    """Says what it got, waits, and says it again."""
    return graph(
        [
            node("in", "AgentInput", name="word"),
            node("first", "AgentOutput", name="first"),
            node("timer", "CountdownTimer", seconds=2),
            node("second", "AgentOutput", name="second"),
        ],
        [
            link("in:result", "first:value"),
            link("in:result", "timer:input_message"),
            link("timer:output_message", "second:value"),
        ],
    )


def waiting_graph(child: UUID) -> dict[str, Any]:
    """A sub-graph with a timer, then a review, then an event."""
    properties = {"properties": {"word": {}}}
    outputs = {"properties": {"first": {}, "second": {}}}
    return graph(
        [
            node("in", "AgentInput", name="word"),
            node(
                "sub",
                "AgentExecutor",
                graph_id=str(child),
                graph_version=1,
                input_schema=properties,
                output_schema=outputs,
            ),
            node("early", "AgentOutput", name="early"),
            node("review", "HumanInTheLoop", name="The word"),
            node("event", "WaitForEvent", name="paid"),
            node("out", "AgentOutput", name="paid"),
            node("word", "AgentOutput", name="approved"),
        ],
        [
            link("in:result", "sub:word"),
            link("sub:first", "early:value"),
            link("sub:second", "review:data"),
            link("review:approved_data", "event:value"),
            link("review:approved_data", "word:value"),
            link("event:payload", "out:value"),
        ],
    )


def waits(fleet: Fleet, run_id: UUID, node_id: str) -> Callable[[], bool]:
    """Whether the run waits, and for this node."""

    def ask() -> bool:
        found = {item.node_id: item.status for item in fleet.client.nodes(run_id)}
        return fleet.client.get_run(run_id).status == "WAITING" and found.get(node_id) == "WAITING"

    return ask


def test_a_run_survives_a_restart_of_everything_at_each_point_where_it_waits(installation: Installation) -> None:
    fleet = installation.fleet
    child = fleet.client.graphs.create(child_graph()).id
    run_id = fleet.submit(waiting_graph(child), {"word": "hello"})

    until(lambda: any(output.name == "early" for output in fleet.client.outputs(run_id)), "an output streams out")
    installation.restart()  # the timer of the child goes on
    until(waits(fleet, run_id, "review"), "it waits for a person")
    installation.restart()
    until(waits(fleet, run_id, "review"), "it still does")
    (review,) = fleet.client.reviews()
    assert (review.run_id, review.data) == (run_id, "hello")
    fleet.client.approve(review.id, edited=("hello, world",))
    until(waits(fleet, run_id, "event"), "it waits for an event")
    installation.restart()
    assert fleet.client.signal(run_id, "paid", {"amount": 7}).taken
    run = fleet.ended(run_id)
    assert (run.status, run.outputs) == (
        "COMPLETED",
        {"early": ["hello"], "approved": ["hello, world"], "paid": [{"amount": 7}]},
    )
    assert run.stats["child_runs"] == 1


def test_timers_are_exact_to_a_second(fleet: Fleet) -> None:
    """A countdown, and a retry that is due: neither comes too early, nor more than a second late."""
    document = graph(
        [
            node("timer", "CountdownTimer", seconds=1),
            node(
                "again",
                "TestFail",
                {"retry": {"max_failures": 1, "base": 1, "jitter": False}},
                kind="transient",
                times=1,
            ),
        ],
        [],
    )
    run_id = fleet.submit(document)
    assert fleet.ended(run_id).status == "COMPLETED"
    events = list(fleet.client.events(run_id))

    def waited(node_id: str, until_kind: str) -> float:
        mine = [event for event in events if event.node_id == node_id]
        began = next(place for place, event in enumerate(mine) if event.status in ("WAITING", "QUEUED"))
        woken = next(event for event in mine[began + 1 :] if event.kind == until_kind)
        return float((woken.at - mine[began].at).total_seconds())

    assert 1 <= waited("timer", "woken") < 2
    assert 1 <= waited("again", "claimed") < 2


def memory_of(fleet: Fleet) -> int:
    """Bytes that the workers' processes have for themselves."""
    total = 0
    for process in fleet.workers.values():
        for one in (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += one.memory_full_info().uss
    return total


def test_ten_thousand_that_wait_cost_no_process_no_connection_and_no_memory(fleet: Fleet) -> None:
    count = 10_000
    small, large = (
        graph(
            [node("each", "StepThroughItems", items=list(range(n))), node("wait", "WaitForEvent", name="go")],
            [link("each:item", "wait:value")],
        )
        for n in (500, count)
    )

    def sleep_all(document: dict[str, Any], n: int) -> UUID:
        run_id = fleet.submit(document)
        until(lambda: fleet.client.get_run(run_id).status == "WAITING", f"{n} wait", seconds=200)
        assert fleet.client.get_run(run_id).stats["node_executions"]["WAITING"] == n
        return run_id

    first = sleep_all(small, 500)
    before = memory_of(fleet)
    second = sleep_all(large, count)
    assert memory_of(fleet) - before < 64 * 1024 * 1024
    for run_id in (first, second):
        fleet.client.cancel(run_id)
        assert fleet.ended(run_id).status == "CANCELLED"
