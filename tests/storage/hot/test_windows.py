"""A window changes when node executions start, and nothing else: no run stands still, none gives other values.

Random graphs (several sinks, joins, static pins, cycles) are driven call by call in random order, with flushes, waits,
failures, retries and lost leases, under windows far below what becomes ready. After every call it is looked whether
something is held although nothing is worked on, and whether anything was overtaken; at the end the executions and
deliveries must be those of the model, which knows no window.
"""

import random
from collections.abc import Callable
from uuid import UUID

import pytest
from delivery_model import Claimed, Model, claim, lose, random_plan, settle, stored_state
from driver import Driver
from hypothesis import HealthCheck, given, settings, target
from hypothesis import strategies as st
from plans import plan_of
from sqlalchemy import text
from sqlalchemy.orm import Session

from agentflow.engine.execution import ExecutionKey
from agentflow.engine.settlement import COMPLETED, FLUSHED, Transition, WaitFor
from agentflow.graph.plan import Plan
from agentflow.storage.hot.node_executions import HotConnection
from agentflow.storage.runs import Ready

pytestmark = pytest.mark.timeout(300, method="thread")

Sessions = Callable[[], Session]

WAIT = Transition.waiting(WaitFor("timer", "", 1e-6, {}))
"""It is due when it is looked at, and not before."""

LINE = plan_of((0, "x", 1, "a"), (1, "x", 2, "a"), nodes=3)

_COUNTS = text(
    "SELECT count(*) FILTER (WHERE open AND hold IS NULL) AS busy, count(*) FILTER (WHERE hold = 'window') AS held, "
    "count(*) FILTER (WHERE hold = 'turn') AS parked FROM node_executions WHERE run_id = :run"
)
_OVERTAKEN = text(
    "SELECT h.node, h.idx, k.idx AS by, k.status FROM node_executions h "
    "JOIN node_executions k ON k.run_id = h.run_id AND k.node = h.node AND k.idx > h.idx "
    "WHERE h.run_id = :run AND h.hold = 'window' AND k.status <> 'INCOMPLETE' AND k.hold IS DISTINCT FROM 'window'"
)


def yields_of(seed: int, node: int, idx: int) -> list[str]:
    """What an execution yields: the same for every order of events. Cycles die out as the index grows."""
    chance = random.Random(f"{seed}/{node}/{idx}")
    if node == 0:
        return ["x"]  # the static pins' one value
    if idx > 12:
        return []
    return [chance.choice("xyz") for _ in range(chance.choice([0, 1, 1, 2, 3, 9]))]


def fails(seed: int, node: int, idx: int) -> bool:
    return random.Random(f"{seed}/{node}/{idx}/fails").random() < 0.1


def without_window(plan: Plan, seed: int) -> Model:
    """What the run comes to, by the words."""
    model = Model(plan)
    while pending := [
        (node, idx)
        for node, executions in model.executions.items()
        for idx, execution in enumerate(executions, start=1)
        if execution.status == "QUEUED"
    ]:
        for node, idx in pending:
            status = "FAILED" if fails(seed, node, idx) else "COMPLETED"
            model.settle(node, idx, yields_of(seed, node, idx), status)
    return model


class Windowed:
    """One run, driven in random order on a connection with a small window."""

    def __init__(self, hot: HotConnection, sessions: Sessions, plan: Plan, run: tuple[UUID, list[Ready]]) -> None:
        self._hot, self._sessions, self._plan = hot, sessions, plan
        self.run_id, self._queued = run[0], list(run[1])
        self._running: list[Claimed] = []
        self._waiting: list[Claimed] = []
        self.parked = 0

    def go(self, chance: random.Random, seed: int) -> None:
        while True:
            if self._waiting and chance.random() < 0.05:
                self._wake(chance)
            elif self._queued and (not self._running or chance.random() < 0.6):
                self._claim(chance)
            elif self._running:
                self._step(chance, seed)
            elif self._rest() == "over":
                return
            self._look()

    def _claim(self, chance: random.Random) -> None:
        node, idx = self._queued.pop(chance.randrange(len(self._queued)))
        claimed = claim(self._hot, self._plan, self.run_id, node, idx)
        assert claimed is not None
        self._running.append(claimed)

    def _step(self, chance: random.Random, seed: int) -> None:
        claimed = self._running.pop(chance.randrange(len(self._running)))
        left = yields_of(seed, claimed.node, claimed.idx)[claimed.emitted :]
        what = chance.choices(["end", "flush", "wait", "retry", "lose"], [60, 15, 10, 8, 7])[0]
        if what == "lose":
            lose(self._hot, self.run_id, claimed)
            self._queued.append(Ready(claimed.node, claimed.idx))
        elif what == "flush" and left:
            self._settle(claimed, left[: chance.randint(1, len(left))], FLUSHED)
            self._running.append(claimed)
        elif what == "wait":
            self._settle(claimed, left[:1], WAIT)
            self._waiting.append(claimed)
        elif what == "retry":
            self._settle(claimed, [], Transition.retried("transient", "again", 0))
            self._queued.append(Ready(claimed.node, claimed.idx))
        elif fails(seed, claimed.node, claimed.idx):
            self._settle(claimed, left, Transition.failed("block", "it failed"))
        else:
            self._settle(claimed, left, COMPLETED)

    def _settle(self, claimed: Claimed, pins: list[str], change: Transition) -> None:
        verdict, ready = settle(self._hot, self._plan, self.run_id, claimed, pins, change)
        assert verdict == "landed"
        assert len(ready) == len(set(ready))
        self._queued += ready

    def _wake(self, chance: random.Random) -> None:
        waiting = self._waiting.pop(chance.randrange(len(self._waiting)))
        assert self._hot.wake_due(ExecutionKey(self.run_id, waiting.node, waiting.idx))
        self._queued.append(Ready(waiting.node, waiting.idx))

    def _rest(self) -> str:
        assert self._hot.quiescent(self.run_id), "who settles last must see that nothing is busy"
        rest = self._hot.rest(self.run_id)
        assert rest.verdict == ("resting" if self._waiting else "over"), "the run stands still"
        if self._waiting:
            with self._sessions() as session:
                status = session.scalar(text("SELECT status FROM runs WHERE id = :run"), {"run": self.run_id})
            assert status == "WAITING", "it only waits"
            self._wake(random.Random(self.parked))
        return rest.verdict

    def _look(self) -> None:
        with self._sessions() as session:
            counts = session.execute(_COUNTS, {"run": self.run_id}).one()
            overtaken = session.execute(_OVERTAKEN, {"run": self.run_id}).all()
        assert not overtaken
        assert counts.busy or not counts.held, "nobody is left to let out what is held"
        self.parked = max(self.parked, counts.parked)


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 10**9), window=st.integers(1, 5), feedback=st.booleans())
def test_a_window_changes_nothing_but_when_things_start(
    hot: HotConnection,
    start: Callable[..., tuple[UUID, list[Ready]]],
    session_of: Sessions,
    seed: int,
    window: int,
    feedback: bool,
) -> None:
    plan = random_plan(random.Random(seed), deterministic=True, with_feedback=feedback)
    model = without_window(plan, seed)
    target(min(model.count(), 300))
    hot._window = window
    run = Windowed(hot, session_of, plan, start(plan))
    run.go(random.Random(seed + 1), seed)
    with session_of() as session:
        assert stored_state(session, run.run_id) == model.state()


@pytest.fixture
def begun(drive: Callable[[Plan], Driver]) -> Callable[[int, int], Driver]:
    """`begun(count, window)`: node 1 has `count` executions, of which `window` are let through."""

    def make(count: int, window: int) -> Driver:
        driver = drive(LINE)
        driver.hot._window = window
        settled = driver.run(0, 1, *(("x", number) for number in range(count)))
        assert len(settled.ready) == window
        return driver

    return make


def test_one_that_ends_before_its_turn_lets_one_out(begun: Callable[[int, int], Driver]) -> None:
    driver = begun(12, 3)
    driver.claim(1, 1)
    for idx in range(2, 13):
        (let_out,) = driver.run(1, idx).ready or [None]
        assert let_out == (Ready(1, idx + 2) if idx + 2 <= 12 else None)
    assert driver.hot.rest(driver.run_id).verdict == "busy", "the first is at work"


def test_one_that_waits_before_its_turn_lets_one_out(begun: Callable[[int, int], Driver]) -> None:
    driver = begun(5, 2)
    driver.claim(1, 1)
    assert driver.run(1, 2, change=WAIT).ready == [Ready(1, 3)]


def test_what_waits_for_its_turn_takes_no_place_in_the_window(begun: Callable[[int, int], Driver]) -> None:
    driver = begun(4, 4)
    tokens = {idx: driver.claim(1, idx)[0] for idx in range(1, 5)}
    for idx in (4, 3, 2):
        driver.settle(1, idx, tokens[idx], ("x", idx))
    settled = driver.settle(1, 1, tokens[1], ("x", 1))
    assert settled.ready == [Ready(2, idx) for idx in range(1, 5)]


def test_a_run_that_is_held_back_by_a_wait_only_reads_waiting(begun: Callable[[int, int], Driver]) -> None:
    driver = begun(3, 3)
    driver.run(1, 1, change=WAIT)
    assert not driver.hot.quiescent(driver.run_id)
    driver.run(1, 3)
    assert not driver.run(1, 2).crowded, "who closes last looks"
    assert driver.hot.quiescent(driver.run_id)
    assert driver.hot.rest(driver.run_id).verdict == "resting"
    assert driver.hot.wake_due(driver.key(1, 1))


def test_while_outputs_are_released_the_run_neither_rests_nor_ends(begun: Callable[[int, int], Driver]) -> None:
    driver = begun(600, 600)
    token, _ = driver.claim(1, 1)
    for idx in range(600, 1, -1):
        driver.run(1, idx)
    settled = driver.settle(1, 1, token)
    assert settled.release_after == 257
    assert driver.hot.rest(driver.run_id).verdict == "busy", "the rest of them is still to be released"
    release_after = settled.release_after
    while release_after is not None:
        _, release_after = driver.hot.release(driver.key(1, release_after))
    assert driver.hot.rest(driver.run_id).verdict == "over"
