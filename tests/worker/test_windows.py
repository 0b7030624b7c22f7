"""A window lets a run's node executions through a few at a time, and changes nothing of what comes out."""

import json
from collections.abc import Callable
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from probes import Chain, Probe, Rows, Submit, Yields, owner_of
from random_graphs import EVENT, random_graph
from steps import execute, wake_due

from agentflow.blocks.base import Context
from agentflow.settings import Settings, settings
from agentflow.worker.finalise import finalise
from agentflow.worker.process import process
from agentflow.worker.upkeep import Upkeep

pytestmark = pytest.mark.timeout(600, method="thread")

READY = (
    "SELECT run_id, node, idx FROM node_executions WHERE open AND status = 'QUEUED' "
    "AND (hold IS NULL OR hold = 'rate') AND (due_at IS NULL OR due_at <= agentflow_now()) ORDER BY run_id, node, idx"
)
HELD_BEHIND = (
    "SELECT h.node, h.idx, p.idx FROM node_executions h JOIN node_executions p ON p.run_id = h.run_id "
    "AND p.node = h.node AND p.idx > h.idx AND p.status <> 'INCOMPLETE' AND p.hold IS DISTINCT FROM 'window' "
    "WHERE h.hold = 'window' LIMIT 1"
)
HELD = "SELECT count(*) FROM node_executions WHERE run_id = :run AND hold = 'window'"
BUSY = "SELECT count(*) FROM node_executions WHERE run_id = :run AND open AND hold IS NULL"


class Installation:
    """Does in this process what workers, people and time do, in any order."""

    def __init__(self, api: FlaskClient, rows: Rows, rng: Random) -> None:
        self._api, self._rows, self._rng = api, rows, rng

    def push(self, document: dict[str, Any]) -> UUID:
        return UUID(self._api.post("/api/v1/graphs", json=document).json["id"])

    def run(self, run_id: UUID) -> dict[str, Any]:
        """The run, at its end."""
        for _ in range(20_000):
            view: Any = self._api.get(f"/api/v1/runs/{run_id}").json
            if view["ended_at"]:
                return view
            assert self._step(), self._rows(
                "SELECT r.id::text, r.status, e.node, e.idx, e.status, e.hold FROM node_executions e "
                "JOIN runs r ON r.id = e.run_id WHERE e.open ORDER BY 1, 3, 4"
            )
        raise AssertionError("the run does not come to its end")

    def _step(self) -> bool:
        """Whether there was something to do."""
        return self.work() or self._woken()

    def work(self) -> bool:
        """Whether there was something that needs no person and no time."""
        ready = self._rows(READY)
        self._rng.shuffle(ready)
        for key in ready[:5]:
            execute(*key)
        return bool(ready) or self._finalised()

    def _finalised(self) -> bool:
        """Runs in which nothing is busy: whether looking at them changed something."""
        state = (
            "SELECT id, status, (SELECT count(*) FROM node_executions WHERE run_id = id AND hold = 'window') FROM runs"
        )
        before = self._rows(state)
        for run_id in self._rows("SELECT id FROM runs WHERE ended_at IS NULL ORDER BY id DESC"):
            finalise(run_id)
        return self._rows(state) != before or bool(self._rows(READY))  # a gather handed on what it held

    def _woken(self) -> bool:
        """Whether anybody decided a review, or the time of a timer or a rate came."""
        reviews = [review["id"] for review in self._api.get("/api/v1/reviews").json["items"]]
        self._rng.shuffle(reviews)
        for review in reviews[: self._rng.randint(1, 3)]:
            self._api.post(f"/api/v1/reviews/{review}/approve", json={})
        timers = self._rows("SELECT run_id, node, idx FROM waits WHERE open AND kind = 'timer' ORDER BY 1, 2, 3")
        self._rng.shuffle(timers)
        for key in timers[: self._rng.randint(1, 3)]:
            self._rows("UPDATE waits SET until = agentflow_now() WHERE run_id = :run AND node = :node AND idx = :idx "
                       "RETURNING 1", run=key[0], node=key[1], idx=key[2])  # fmt: skip
            wake_due(*key)
        early = self._rows(
            "UPDATE node_executions SET due_at = agentflow_now() WHERE status = 'QUEUED' "
            "AND due_at > agentflow_now() AND hold = 'rate' RETURNING 1"
        )
        if reviews or timers or early:
            return True
        Upkeep(process()).run_pass()
        return bool(self._rows(READY))


@pytest.fixture
def window(environment: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`window(5)`: from now on, so many of a run are ready at once."""

    def set_to(size: int) -> None:
        monkeypatch.setenv("AGENTFLOW_READY_WINDOW", str(size))
        settings.cache_clear()
        process().hot.close()
        process.cache_clear()  # its connection keeps the window that it was made with

    return set_to


@given(seed=st.integers(0, 2**40), size=st.integers(1, 5))
@hypothesis_settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_run_under_a_window_gives_what_it_gives_without(
    api: FlaskClient, rows: Rows, window: Callable[[int], None], seed: int, size: int
) -> None:
    """For-eaches in for-eaches, several sinks, waits, child runs, gathers, limits."""
    window(size)
    installation = Installation(api, rows, Random(seed))
    document, draft = random_graph(seed, installation.push, misbehaves=False)
    reply = api.post("/api/v1/runs", json={"graph": document})
    assert reply.status_code == 202, reply.json
    run_id = UUID(reply.json["id"])
    for _ in range(draft.events):
        assert api.post(f"/api/v1/runs/{run_id}/signals/{EVENT}", json={"payload": 1}).status_code == 202
    view = installation.run(run_id)
    assert view["status"] == "COMPLETED", view
    got: dict[str, list[Any]] = {name: [] for name in draft.outputs}
    for item in _all_outputs(api, run_id):
        got[item["name"]].append(item["value"])
    assert got == draft.outputs


def _all_outputs(api: FlaskClient, run_id: UUID) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page: Any = api.get(f"/api/v1/runs/{run_id}/outputs?limit=200{cursor}").json
        found += page["items"]
        if not page["next_cursor"]:
            return found
        cursor = f"&after={page['next_cursor']}"


@pytest.mark.parametrize("first_done", ["first", "last", "middle"])
def test_no_later_execution_of_a_node_passes_one_that_the_window_holds(
    probe: Probe, chain: Chain, rows: Rows, window: Callable[[int], None], first_done: str
) -> None:
    window(3)

    def items(inputs: Any, context: Context) -> Yields:
        for number in range(12):
            yield "number", number

    def passes(inputs: Any, context: Context) -> Yields:
        yield "number", inputs.value

    run_id = chain(probe(items), probe(passes), probe(passes), pin="number")
    execute(run_id, 0, 1)
    for _ in range(12 * 2):
        assert rows(HELD_BEHIND) == []
        ready = rows(READY)
        assert 1 <= len(ready) <= 3
        _, node, idx = {"first": ready[0], "last": ready[-1], "middle": ready[len(ready) // 2]}[first_done]
        execute(run_id, node, idx)
    assert rows(READY) == []
    assert finalise(run_id)
    assert rows("SELECT value FROM outputs WHERE run_id = :run AND node = 2 ORDER BY idx", run=run_id) == [
        str(number) for number in range(12)
    ]


def test_each_that_ends_out_of_turn_lets_one_out(
    probe: Probe, chain: Chain, rows: Rows, window: Callable[[int], None]
) -> None:
    window(3)

    def items(inputs: Any, context: Context) -> Yields:
        for number in range(10):
            yield "number", number

    def passes(inputs: Any, context: Context) -> Yields:
        yield "number", inputs.value

    run_id = chain(probe(items), probe(passes), probe(passes), pin="number")
    execute(run_id, 0, 1)
    for idx in range(2, 11):
        execute(run_id, 1, idx)  # the first is not done yet
        assert len(rows(READY)) == min(3, 11 - idx)
    assert rows(BUSY, run=run_id) == [1], "what is done and waits for its turn is not worked on"
    execute(run_id, 1, 1)
    assert len(rows(READY)) == 3, "all ten go on at once, and the window holds them"


def test_a_run_that_only_waits_reads_waiting_though_a_later_execution_is_done(
    api: FlaskClient, submit: Submit, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTFLOW_MAX_ACTIVE_RUNS", "1")
    settings.cache_clear()
    document = json.loads(TWO_REVIEWS)
    run_id, later = submit(document), submit(document)
    installation = Installation(api, rows, Random(1))
    while installation.work():
        pass
    first, second = sorted(
        (one for one in api.get("/api/v1/reviews").json["items"] if one["run_id"] == str(run_id)),
        key=lambda one: one["index"],
    )
    assert api.get(f"/api/v1/runs/{later}").json["status"] == "WAITING", "the first one rests: its place is free"
    api.post(f"/api/v1/reviews/{second['id']}/approve", json={})
    while installation.work():
        pass
    assert api.get(f"/api/v1/runs/{run_id}").json["status"] == "WAITING"
    third = submit(document)
    while installation.work():
        pass
    assert api.get(f"/api/v1/runs/{third}").json["status"] == "WAITING", "it did not have to wait for a person"
    api.post(f"/api/v1/reviews/{first['id']}/approve", json={})
    while installation.work():
        pass
    view: Any = api.get(f"/api/v1/runs/{run_id}").json
    assert (view["status"], view["outputs"]) == ("COMPLETED", {"o": [1, 2]})


TWO_REVIEWS = json.dumps(
    {
        "nodes": [
            {"id": "each", "block_id": "StepThroughItems", "input_default": {"items": [1, 2]}},
            {"id": "review", "block_id": "HumanInTheLoop", "input_default": {"name": "it"}},
            {"id": "out", "block_id": "AgentOutput", "input_default": {"name": "o"}},
        ],
        "links": [
            {"source_id": "each", "source_name": "item", "sink_id": "review", "sink_name": "data"},
            {"source_id": "review", "source_name": "approved_data", "sink_id": "out", "sink_name": "value"},
        ],
    }
)


def test_those_whose_places_are_taken_by_parked_ones_are_let_out(
    probe: Probe, submit: Submit, rows: Rows, window: Callable[[int], None]
) -> None:
    """The window is full of node executions that wait for a slot which another run has."""
    window(2)

    def nothing(inputs: Any, context: Context) -> Yields:
        yield "number", 1

    block = probe(nothing)
    limited = {"concurrency": {"key": "k", "limit": 1}}
    nodes = [{"id": f"l{n}", "block_id": block, "settings": limited} for n in range(2)]
    free = [{"id": f"f{n}", "block_id": block} for n in range(3)]
    run_id = submit({"nodes": [*nodes, *free], "links": []})
    owner = rows("SELECT owner_id FROM runs WHERE id = :run", run=run_id)[0]
    rows("INSERT INTO limits (owner_id, key) VALUES (:owner, 'slot:k') RETURNING 1", owner=owner)
    other = submit({"nodes": [{"id": "x", "block_id": block}], "links": []})
    rows("INSERT INTO limit_slots (run_id, node, idx, owner_id, key) VALUES (:run, 0, 1, :owner, 'slot:k') RETURNING 1",
         run=other, owner=owner)  # fmt: skip
    for key in rows(READY):
        if key[0] == run_id:
            execute(*key)
    assert rows("SELECT count(*) FROM node_executions WHERE run_id = :run AND hold = 'limit'", run=run_id) == [2]
    assert rows(BUSY, run=run_id) == [2], "others go on meanwhile, though the run has not come to rest"


def limits_of(rng: Random, mark: str) -> dict[str, Any]:
    some: dict[str, Any] = {}
    if rng.random() < 0.5:
        some["concurrency"] = {"key": f"{mark}{rng.choice('ab')}", "limit": rng.randint(1, 5)}
    if rng.random() < 0.3:
        some["rate_limit"] = {"key": f"{mark}{rng.choice('ab')}", "per_second": 0.001}
    return some


@given(seed=st.integers(0, 2**40), size=st.integers(1, 5))
@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_who_is_over_a_limit_gives_its_place_in_the_window_to_others(
    probe: Probe, submit: Submit, rows: Rows, window: Callable[[int], None], seed: int, size: int
) -> None:
    """A for-each into branches of which some are limited; some slots are another run's at first.

    At every moment the window is full, or holds nothing: nobody waits until the run comes to rest.
    """
    window(size)
    rng, mark = Random(seed), uuid4().hex  # limits are the owner's, and outlive an example

    def items(inputs: Any, context: Context) -> Yields:
        for number in range(9):
            yield "number", number

    def passes(inputs: Any, context: Context) -> Yields:
        yield "number", inputs.value

    each, block = probe(items), probe(passes)
    nodes: list[dict[str, Any]] = [{"id": "each", "block_id": each}]
    links = []
    for branch in range(rng.randint(1, 3)):
        before = "each"
        for step in range(rng.randint(1, 2)):
            name = f"b{branch}{step}"
            nodes.append({"id": name, "block_id": block, "settings": limits_of(rng, mark)})
            links.append({"source_id": before, "source_name": "number", "sink_id": name, "sink_name": "value"})
            before = name
    run_id, other = submit({"nodes": nodes, "links": links}), submit({"nodes": nodes[:1], "links": []})
    owner = owner_of(rows, run_id)
    for idx, key in enumerate((f"slot:{mark}a", f"slot:{mark}b"), start=1):
        if rng.random() < 0.5:
            rows("INSERT INTO limits (owner_id, key) VALUES (:owner, :key) RETURNING 1", owner=owner, key=key)
            rows("INSERT INTO limit_slots (run_id, node, idx, owner_id, key) VALUES (:run, 0, :idx, :owner, :key) "
                 "RETURNING 1", run=other, idx=idx, owner=owner, key=key)  # fmt: skip
    while True:
        ready = [key for key in rows(READY) if key[0] == run_id]
        if ready:
            execute(*rng.choice(ready))
        elif not (rows(FREED, run=other) or rows(EARLY, run=run_id)):
            break
        assert rows(BUSY, run=run_id)[0] >= size or rows(HELD, run=run_id) == [0]
    assert finalise(run_id)
    execute(other, 0, 1)
    assert finalise(other)
    for number in range(1, len(nodes)):
        found = rows(
            "SELECT value FROM outputs WHERE run_id = :run AND node = :node ORDER BY idx", run=run_id, node=number
        )
        assert found == [str(value) for value in range(9)]


FREED = "SELECT f.* FROM limit_slots s, LATERAL agentflow_free_slot(s.run_id, s.node, s.idx) f WHERE s.run_id = :run"
EARLY = (
    "UPDATE node_executions SET due_at = agentflow_now() WHERE run_id = :run AND hold = 'rate' "
    "AND due_at > agentflow_now() RETURNING 1"
)
