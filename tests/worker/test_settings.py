"""Each setting, as the graph's and overridden by a node: what a node does, or is left to do, follows the nearer one.

(`tests/graph/test_settings.py` holds how the two are laid over each other; here is what comes of it.)
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
import redis
import steps
from probes import Probe, Rows, Statuses, Submit, Yields, passes
from steps import claim, execute

from agentflow.blocks.base import BlockOutput, Context
from agentflow.dispatch.lanes import LANES, MOST_URGENT, queue_name
from agentflow.engine.execution import ExecutionKey
from agentflow.errors import Transient
from agentflow.worker.finalise import finalise
from agentflow.worker.process import holder, process
from agentflow.worker.recovery import Recovery

pytestmark = pytest.mark.timeout(60, method="thread")

Settings = dict[str, Any]

DEAD = 4_194_305  # no process has this id


@pytest.fixture
def alone(probe: Probe, submit: Submit) -> Callable[..., UUID]:
    """`alone(graph settings, node settings, run, copies=1, **submission)` runs nodes that do `run`, without links."""

    def start(
        graph: Settings, own: Settings, run: Callable[..., Any] = passes, copies: int = 1, cost: int = 0, **more: Any
    ) -> UUID:
        block = probe(run, cost=cost)
        nodes = [
            {"id": f"n{number}", "block_id": block, "input_default": {"value": 1}, "settings": own}
            for number in range(copies)
        ]
        return submit({"name": "alone", "nodes": nodes, "links": [], "settings": graph}, **more)

    return start


Alone = Callable[..., UUID]


@pytest.mark.parametrize(
    ("graph", "own", "attempts"),
    [
        ({}, {}, 1),
        ({"retry": {"max_failures": 2, "base": 0}}, {}, 3),
        ({"retry": {"max_failures": 2, "base": 0}}, {"retry": {"max_failures": 1}}, 2),
        ({"retry": {"max_failures": 2, "base": 0}}, {"retry": {"on": ["user"]}}, 1),
        ({}, {"retry": {"max_failures": 1, "base": 0}}, 2),
    ],
)
def test_retry(alone: Alone, statuses: Statuses, graph: Settings, own: Settings, attempts: int) -> None:
    made: list[int] = []

    def fails(inputs: Any, context: Context) -> Yields:
        made.append(context.attempt)
        raise Transient("503")
        yield

    run_id = alone(graph, own, fails)
    for _ in range(5):
        execute(run_id, 0, 1)
    assert made == list(range(1, attempts + 1))
    assert statuses(run_id) == {"0/1": "FAILED transient"}


@pytest.mark.parametrize(
    ("graph", "own", "status"),
    [
        ({}, {}, "QUEUED"),
        ({"on_worker_lost": "fail"}, {}, "FAILED worker_lost"),
        ({"on_worker_lost": "fail"}, {"on_worker_lost": "rerun"}, "QUEUED"),
        ({"on_worker_lost": "rerun"}, {"on_worker_lost": "fail"}, "FAILED worker_lost"),
        ({"max_losses": 0}, {}, "FAILED worker_lost"),
        ({"max_losses": 0}, {"max_losses": 1}, "QUEUED"),
        ({"max_losses": 1}, {"max_losses": 0}, "FAILED worker_lost"),
    ],
)
def test_on_worker_lost_and_max_losses(
    alone: Alone, statuses: Statuses, graph: Settings, own: Settings, status: str
) -> None:
    run_id = alone(graph, own)
    steps.hold(run_id, holder(DEAD))
    Recovery(process()).return_lease(ExecutionKey(run_id, 0, 1), holder(DEAD), timed_out=False)
    assert statuses(run_id) == {"0/1": status}


def test_three_lost_workers_are_borne_and_they_are_no_failures(alone: Alone, statuses: Statuses, rows: Rows) -> None:
    run_id = alone({}, {})
    counted = "SELECT losses, failures FROM node_executions WHERE run_id = :run"
    for losses in (1, 2, 3):
        steps.hold(run_id, holder(DEAD))
        Recovery(process()).return_lease(ExecutionKey(run_id, 0, 1), holder(DEAD), timed_out=False)
        assert (statuses(run_id), rows(counted, run=run_id)) == ({"0/1": "QUEUED"}, [(losses, 0)])
    steps.hold(run_id, holder(DEAD))
    Recovery(process()).return_lease(ExecutionKey(run_id, 0, 1), holder(DEAD), timed_out=False)
    assert statuses(run_id) == {"0/1": "FAILED worker_lost"}


@pytest.mark.parametrize(
    ("graph", "own", "status"),
    [
        ({"timeout": 0.2}, {}, "FAILED timeout"),
        ({"timeout": 0.2}, {"timeout": 60}, "COMPLETED"),
        ({"timeout": 60}, {"timeout": 0.2}, "FAILED timeout"),
    ],
)
def test_timeout(alone: Alone, statuses: Statuses, signals: None, graph: Settings, own: Settings, status: str) -> None:
    def takes_half_a_second(inputs: Any, context: Context) -> Yields:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            pass
        yield "value", 1

    run_id = alone(graph, own, takes_half_a_second)
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": status}


def test_timeout_is_of_each_attempt(alone: Alone, statuses: Statuses, signals: None) -> None:
    def takes_long_at_first(inputs: Any, context: Context) -> Yields:
        end = time.monotonic() + (30 if context.attempt == 1 else 0.3)
        while time.monotonic() < end:
            pass
        yield "value", 1

    run_id = alone({"timeout": 1, "retry": {"max_failures": 1, "base": 0}}, {}, takes_long_at_first)
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "QUEUED timeout"}, "it has used its second up"
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "COMPLETED"}, "and has another"


@pytest.mark.parametrize(
    ("graph", "own", "delivered"),
    [
        ({}, {}, 0),
        ({"ordering": "arrival"}, {}, 1),
        ({"ordering": "arrival"}, {"ordering": "ordered"}, 0),
        ({}, {"ordering": "arrival"}, 1),
    ],
)
def test_ordering(probe: Probe, submit: Submit, rows: Rows, graph: Settings, own: Settings, delivered: int) -> None:
    def two(inputs: Any, context: Context) -> Yields:
        yield "value", 0
        yield "value", 1

    nodes = [
        {"id": "two", "block_id": probe(two), "input_default": {}},
        {"id": "some", "block_id": probe(passes), "input_default": {}, "settings": own},
        {"id": "last", "block_id": probe(passes), "input_default": {}},
    ]
    links = [
        {"source_id": source, "source_name": "value", "sink_id": sink, "sink_name": "value"}
        for source, sink in (("two", "some"), ("some", "last"))
    ]
    run_id = submit({"name": "order", "nodes": nodes, "links": links, "settings": graph})
    execute(run_id, 0, 1)
    execute(run_id, 1, 2)
    assert rows("SELECT count(*) FROM deliveries WHERE run_id = :run AND node = 2", run=run_id) == [delivered]


@pytest.mark.parametrize(
    ("graph", "own", "times"),
    [
        ({}, {}, 2),
        ({"cache": {"ttl": 60}}, {}, 1),
        ({"cache": {"ttl": 60}}, {"cache": None}, 2),
        ({}, {"cache": {"ttl": 60}}, 1),
    ],
)
def test_cache(alone: Alone, rows: Rows, graph: Settings, own: Settings, times: int) -> None:
    """A hit does not run the block, gives the same outputs, and costs nothing."""
    ran: list[int] = []

    def counts(inputs: Any, context: Context) -> Yields:
        ran.append(1)
        yield "value", "stored"

    run_id = alone(graph, own, counts, copies=2, cost=7)
    for node in (0, 1):
        execute(run_id, node, 1)
    assert len(ran) == times
    assert rows("SELECT value FROM outputs WHERE run_id = :run", run=run_id) == ['"stored"'] * 2
    assert rows("SELECT cost::int FROM run_costs WHERE root_id = :run", run=run_id) == [7 * times]
    assert finalise(run_id)
    assert rows("SELECT (stats ->> 'cost')::int FROM runs WHERE id = :run", run=run_id) == [7 * times]


def test_a_cached_number_that_json_does_not_have_stands_in_too(
    probe: Probe, submit: Submit, statuses: Statuses, rows: Rows
) -> None:
    class Number(BlockOutput):
        value: float

    def infinite(inputs: Any, context: Context) -> Yields:
        yield "value", float("inf")
        yield "value", float("nan")

    block = probe(infinite, Output=Number)
    nodes = [{"id": f"n{number}", "block_id": block, "settings": {"cache": {"ttl": 60}}} for number in range(2)]
    run_id = submit({"name": "odd numbers", "nodes": nodes, "links": []})
    for node in (0, 1):
        execute(run_id, node, 1)
    assert statuses(run_id) == {"0/1": "COMPLETED", "1/1": "COMPLETED"}
    stored = "SELECT value FROM outputs WHERE run_id = :run AND node = :node ORDER BY ordinal"
    assert rows(stored, run=run_id, node=0) == rows(stored, run=run_id, node=1) == ['"Infinity"', '"NaN"']


def test_another_blocks_outputs_do_not_stand_in(alone: Alone) -> None:
    ran: list[int] = []

    def counts(inputs: Any, context: Context) -> Yields:
        ran.append(1)
        yield "value", 1

    for _ in range(2):  # each call makes a block of its own
        execute(alone({"cache": {"ttl": 60}}, {}, counts), 0, 1)
    assert ran == [1, 1]


@pytest.fixture
def published(broker_url: str) -> Iterator[Callable[[UUID], list[tuple[str, int]]]]:
    """Where the messages of a run wait at the broker: (lane, priority), 9 being the most urgent."""
    with redis.Redis.from_url(broker_url) as client:

        def look(run_id: UUID) -> list[tuple[str, int]]:
            found = []
            for lane in (*LANES, "gpu"):
                for key in client.scan_iter(f"{queue_name(lane)}*"):
                    for raw in client.lrange(key, 0, -1):
                        message = json.loads(raw)
                        if str(run_id) in message["headers"]["argsrepr"]:
                            found.append((lane, MOST_URGENT - message["properties"]["priority"]))
            return found

        yield look


@pytest.mark.parametrize(
    ("graph", "own", "lane"),
    [
        ({}, {}, "default"),
        ({"queue": "gpu"}, {}, "gpu"),
        ({"queue": "gpu"}, {"queue": "io"}, "io"),
        ({}, {"queue": "cpu"}, "cpu"),
    ],
)
def test_queue(
    alone: Alone, published: Callable[[UUID], list[tuple[str, int]]], graph: Settings, own: Settings, lane: str
) -> None:
    assert published(alone(graph, own)) == [(lane, 5)]


@pytest.mark.parametrize(
    ("graph", "own", "submitted", "priority"),
    [
        ({}, {}, None, 5),
        ({"priority": 7}, {}, None, 7),
        ({"priority": 7}, {}, 2, 2),
        ({"priority": 7}, {"priority": 0}, 2, 0),
        ({}, {"priority": 9}, None, 9),
    ],
)
def test_priority(
    alone: Alone,
    published: Callable[[UUID], list[tuple[str, int]]],
    graph: Settings,
    own: Settings,
    submitted: int | None,
    priority: int,
) -> None:
    more = {} if submitted is None else {"priority": submitted}
    assert published(alone(graph, own, **more)) == [("default", priority)]


ONE = {"key": "k", "limit": 1}
SELDOM = {"key": "k", "per_second": 0.001}


@pytest.mark.parametrize(
    ("graph", "own", "claimed", "hold"),
    [
        ({}, {}, 2, None),
        ({"concurrency": ONE}, {}, 1, "limit"),
        ({"concurrency": ONE}, {"concurrency": {"key": "k", "limit": 2}}, 2, None),
        ({"concurrency": ONE}, {"concurrency": None}, 2, None),
        ({}, {"concurrency": ONE}, 1, "limit"),
        ({"rate_limit": SELDOM}, {}, 1, "rate"),
        ({"rate_limit": SELDOM}, {"rate_limit": None}, 2, None),
        ({"rate_limit": SELDOM}, {"rate_limit": {"key": "other", "per_second": 1_000_000}}, 2, None),
        ({}, {"rate_limit": SELDOM}, 1, "rate"),
    ],
)
def test_concurrency_and_rate_limit(
    alone: Alone, rows: Rows, graph: Settings, own: Settings, claimed: int, hold: str | None
) -> None:
    """Who is over a limit is parked: held in its row, with no message that goes round and round."""
    run_id = alone(graph, own, copies=2)
    attempts = [claim(process(), run_id, node, 1) for node in (0, 1)]
    assert sum(attempt is not None for attempt in attempts) == claimed
    assert rows("SELECT hold FROM node_executions WHERE run_id = :run AND node = 1", run=run_id) == [hold]
