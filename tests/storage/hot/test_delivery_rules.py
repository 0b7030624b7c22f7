"""The database delivers values as a simple model of docs/semantics.md (section 4) does.

Random graphs, with cycles, self-loops, pins fed by several nodes, static and mixed pins, input nodes that are also
linked, and pins that first executions do not wait for, are driven settle by settle in random order, with flushes,
failures, lost leases and duplicates; after every step the executions and deliveries of database and model are compared.
Then the same with threads, where each pin is fed by one node and each static pin gets one value: the outcome may not
depend on who was faster.
"""

import random
import threading
from collections.abc import Callable
from uuid import UUID

import pytest
from delivery_model import Claimed, Model, claim, lose, random_plan, settle, stored_state
from sqlalchemy.orm import Session

from agentflow.engine.settlement import COMPLETED, FLUSHED, Transition
from agentflow.storage.hot.node_executions import HotConnection
from agentflow.storage.runs import Ready

MAX_EXECUTIONS = 60  # of a run: cycles stop yielding then


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
                assert settle(hot, plan, run_id, claimed, ["x"], COMPLETED)[0] == "lost", "a zombie settles"
                queued.append(Ready(claimed.node, claimed.idx))
                continue
            flush = chance.random() < 0.3
            yields = chance.randint(0, 3) if model.count() < MAX_EXECUTIONS else 0
            pins = [chance.choice("xyz") for _ in range(max(yields, 1) if flush else yields)]
            if flush and model.count() >= MAX_EXECUTIONS:
                pins = ["z"]  # no link takes it
            status = None if flush else chance.choice(["COMPLETED", "COMPLETED", "FAILED"])
            change = {None: FLUSHED, "COMPLETED": COMPLETED, "FAILED": Transition.failed("block", "it failed")}[status]
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
                        verdict, found = settle(hot, plan, run_id, claimed, pins[:1], FLUSHED)
                        assert verdict == "landed"
                        pins = pins[1:]
                    if chance.random() < 0.15:
                        lose(hot, run_id, claimed)
                        found.append(item)
                        continue
                    verdict, ready = settle(hot, plan, run_id, claimed, pins, COMPLETED)
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
