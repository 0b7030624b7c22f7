"""A run and its child runs are one thing: what is set for the root holds for all, and steering passes down."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from probes import Probe, Rows, Submit, Yields, owner_of, passes
from steps import execute, wake_due

from agentflow.blocks import registry
from agentflow.blocks.base import Context
from agentflow.engine.waits import ChildRun, Timer
from agentflow.errors import Conflict
from agentflow.graph.model import AGENT_BLOCK
from agentflow.services import cancellation, child_runs, graphs, steering
from agentflow.services.transaction import Step, carry_out, transaction
from agentflow.settings import settings
from agentflow.storage.runs import Parent
from agentflow.worker.finalise import finalise
from agentflow.worker.process import Process, process
from agentflow.worker.recovery import Recovery
from agentflow.worker.upkeep import Upkeep

pytestmark = pytest.mark.timeout(60, method="thread")


def waits_for(graph_id: str) -> Callable[[Any, Context], Yields]:
    def run(inputs: Any, context: Context) -> Yields:
        if context.resumed is None:
            yield ChildRun(graph_id)
        elif context.resumed.value["status"] == "RUNNING":
            yield ChildRun(graph_id, cursor=context.resumed.value["cursor"])
        else:
            yield "value", context.resumed.value["status"]

    return run


def fails_with_its_child(graph_id: str) -> Callable[[Any, Context], Yields]:
    def run(inputs: Any, context: Context) -> Yields:
        for item in waits_for(graph_id)(inputs, context):
            if item == ("value", "FAILED"):
                raise RuntimeError("my child failed")
            yield item

    return run


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, f"not within 20 s: {what}"
        time.sleep(0.01)


@pytest.fixture
def stored(submit: Submit, rows: Rows) -> Callable[[dict[str, Any]], str]:
    """`stored(document)` stores a graph of the owner's, and gives its id."""

    def store(document: dict[str, Any]) -> str:
        submit()  # makes the owner
        (owner,) = rows("SELECT owner_id FROM runs LIMIT 1")
        with transaction() as session:
            return str(graphs.create(session, owner, document).id)

    return store


@pytest.fixture
def tree(
    probe: Probe, stored: Callable[[dict[str, Any]], str], submit: Submit, rows: Rows
) -> Callable[..., tuple[UUID, UUID]]:
    """`tree(child document, graph settings={}, **submission)` starts a run with a child run of it; gives both."""

    def start(
        child: dict[str, Any], settings: dict[str, Any] | None = None, calls: Any = waits_for, **more: Any
    ) -> tuple[UUID, UUID]:
        graph_id = stored(child)
        nodes = [{"id": "sub", "block_id": probe(calls(graph_id)), "input_default": {}}]
        run_id = submit({"name": "root", "nodes": nodes, "links": [], "settings": settings or {}}, **more)
        execute(run_id, 0, 1)
        (child_id,) = rows("SELECT id FROM runs WHERE parent_run_id = :run", run=run_id)
        return run_id, child_id

    return start


def one_node(block: str, **settings: Any) -> dict[str, Any]:
    nodes = [{"id": "x", "block_id": block, "input_default": {"value": 1}}]
    return {"name": "child", "nodes": nodes, "links": [], "settings": settings}


def test_a_child_has_its_parents_owner_priority_masks_and_never_a_later_deadline(
    probe: Probe, tree: Callable[..., tuple[UUID, UUID]], rows: Rows
) -> None:
    masks = {"x": {"value": "masked"}}
    child = one_node(probe(passes), deadline=5000)
    run_id, child_id = tree(child, {"deadline": 100}, priority=8, nodes_input_masks=masks)
    columns = "SELECT owner_id, priority, masks, deadline_at, root_id, depth FROM runs WHERE id = :run"
    (root,), (below,) = rows(columns, run=run_id), rows(columns, run=child_id)
    assert below[:4] == root[:4]
    assert (root[4:], below[4:]) == ((run_id, 0), (run_id, 1))
    execute(child_id, 0, 1)
    assert rows("SELECT value FROM outputs WHERE run_id = :run AND node = 0", run=child_id) == ['"masked"']


def test_a_shorter_deadline_of_the_child_counts(
    probe: Probe, tree: Callable[..., tuple[UUID, UUID]], rows: Rows
) -> None:
    run_id, child_id = tree(one_node(probe(passes), deadline=50), {"deadline": 100})
    ends = "SELECT deadline_at FROM runs WHERE id = :run"
    ((root,), (below,)) = (rows(ends, run=run_id), rows(ends, run=child_id))
    assert root - below > timedelta(seconds=30)


@pytest.mark.parametrize(
    ("of_root", "of_child", "expected"),
    [
        (100, None, (100, 100)),
        (100, 50, (100, 50)),
        (None, 50, (None, 50)),
        (50, 100, (50, 50)),
        (None, None, 2 * (None,)),
    ],
)
def test_every_retry_of_a_tree_counts_the_whole_deadline_anew(
    probe: Probe,
    tree: Callable[..., tuple[UUID, UUID]],
    rows: Rows,
    of_root: int | None,
    of_child: int | None,
    expected: tuple[int | None, int | None],
) -> None:
    run_id, child_id = tree(one_node(probe(passes), deadline=of_child), {"deadline": of_root})
    owner = owner_of(rows, run_id)
    remaining = "SELECT extract(epoch FROM deadline_at - agentflow_now())::float8 FROM runs WHERE id = :run"
    for _ in range(4):
        with transaction() as session:
            cancellation.cancel(session, owner, run_id, "by hand")
        assert finalise(child_id)
        assert finalise(run_id)
        # As if it had begun long ago, the child long after its parent.
        rows("UPDATE runs SET created_at = created_at - interval '1 hour' WHERE id = :run RETURNING 1", run=run_id)
        rows("UPDATE runs SET created_at = created_at - interval '1 minute' WHERE id = :run RETURNING 1", run=child_id)
        carry_out(steering.retry(owner, run_id))
        left = (rows(remaining, run=run_id)[0], rows(remaining, run=child_id)[0])
        assert left == tuple(None if seconds is None else pytest.approx(seconds, abs=5) for seconds in expected)
        assert of_root is None or left[1] <= left[0], "never later than its parent's"


def test_a_child_that_passes_its_own_deadline_ends_alone(
    probe: Probe, tree: Callable[..., tuple[UUID, UUID]], rows: Rows
) -> None:
    run_id, child_id = tree(one_node(probe(passes), deadline=50), {"deadline": 100})
    rows("UPDATE runs SET deadline_at = agentflow_now() WHERE id = :run RETURNING 1", run=child_id)
    Upkeep(process()).run_pass()
    finalise(child_id)
    assert rows("SELECT status, reason FROM runs WHERE id = :run", run=child_id) == [("FAILED", "timeout")]
    execute(run_id, 0, 1)
    assert finalise(run_id)
    assert rows("SELECT value FROM outputs WHERE run_id = :run", run=run_id) == ['"FAILED"'], "the parent hears of it"
    assert rows("SELECT status FROM runs WHERE id = :run", run=run_id) == ["COMPLETED"]


def test_a_deadline_of_the_root_ends_all_of_the_tree(
    probe: Probe, tree: Callable[..., tuple[UUID, UUID]], rows: Rows
) -> None:
    run_id, child_id = tree(one_node(probe(passes)), {"deadline": 100})
    rows("UPDATE runs SET deadline_at = agentflow_now() WHERE root_id = :run RETURNING 1", run=run_id)
    Upkeep(process()).run_pass()
    finalise(child_id)
    finalise(run_id)
    assert rows("SELECT status, reason FROM runs WHERE id = :run", run=run_id) == [("FAILED", "timeout")]
    assert rows("SELECT status FROM runs WHERE id = :run", run=child_id) == ["CANCELLED"]


def test_what_a_child_costs_counts_against_the_budget_of_its_root(
    probe: Probe, tree: Callable[..., tuple[UUID, UUID]], rows: Rows
) -> None:
    run_id, child_id = tree(one_node(probe(passes, cost=11)), {"budget": 10})
    execute(child_id, 0, 1)
    assert finalise(child_id)
    assert finalise(run_id)
    assert rows("SELECT status, reason FROM runs WHERE id = :run", run=run_id) == [("FAILED", "insufficient_balance")]
    assert rows("SELECT stats ->> 'cost' FROM runs WHERE id = :run", run=run_id) == ["11"]


def test_the_node_executions_of_children_count_against_the_limit_of_their_root(
    probe: Probe, tree: Callable[..., tuple[UUID, UUID]], rows: Rows
) -> None:
    def many(inputs: Any, context: Context) -> Yields:
        for number in range(20):
            yield "value", number

    nodes = [{"id": name, "block_id": probe(run), "input_default": {}} for name, run in (("a", many), ("b", passes))]
    links = [{"source_id": "a", "source_name": "value", "sink_id": "b", "sink_name": "value"}]
    run_id, child_id = tree({"name": "child", "nodes": nodes, "links": links}, {"max_node_executions": 10})
    execute(child_id, 0, 1)
    assert finalise(child_id)
    assert finalise(run_id)
    assert rows("SELECT status, reason FROM runs WHERE id = :run", run=run_id) == [("FAILED", "max_node_executions")]


def test_a_tree_of_small_runs_overshoots_its_limit_by_little(
    probe: Probe, stored: Callable[..., str], submit: Submit, rows: Rows
) -> None:
    nodes = [{"id": f"n{number}", "block_id": probe(passes), "input_default": {}} for number in range(5)]
    graph_id = stored({"name": "five", "nodes": nodes, "links": []})
    each = [{"id": f"sub{number}", "block_id": probe(waits_for(graph_id)), "input_default": {}} for number in range(60)]
    run_id = submit({"name": "root", "nodes": each, "links": [], "settings": {"max_node_executions": 200}})
    for number in range(60):
        execute(run_id, number, 1)
        for child_id in rows("SELECT id FROM runs WHERE parent_run_id = :run AND status = 'QUEUED'", run=run_id):
            execute(child_id, 0, 1)
    assert rows("SELECT stop_reason FROM runs WHERE id = :run", run=run_id) == ["max_node_executions"]
    made = rows(
        "SELECT count(*) FROM node_executions e JOIN runs r ON r.id = e.run_id WHERE r.root_id = :run", run=run_id
    )
    assert made[0] <= 200 + 5, "one child's node executions at most are made before the tree is counted again"


def test_a_child_that_is_made_while_its_parent_is_paused_is_paused(
    probe: Probe, stored: Callable[..., str], submit: Submit, rows: Rows
) -> None:
    graph_id = stored(one_node(probe(passes)))
    nodes = [{"id": "sub", "block_id": probe(waits_for(graph_id)), "input_default": {}}]
    run_id = submit({"name": "root", "nodes": nodes, "links": []})
    (owner,) = rows("SELECT owner_id FROM runs WHERE id = :run", run=run_id)
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    pausing = threading.Thread(target=lambda: carry_out(steering.pause(owner, run_id)))
    with transaction() as session:
        caller = child_runs.Caller(Parent(run_id, 0, 1), owner, 5, 0)
        child_runs.start_graph(session, caller, graph_id, None, {})
        pausing.start()
        until(lambda: rows(waits) == [1], "the pause waits for the child that is being made")
    pausing.join()
    assert rows("SELECT count(*) FROM runs WHERE paused_at IS NOT NULL AND root_id = :run", run=run_id) == [2]


def test_a_pause_and_a_resume_pass_down(probe: Probe, tree: Callable[..., tuple[UUID, UUID]], rows: Rows) -> None:
    run_id, child_id = tree(one_node(probe(passes)))
    (owner,) = rows("SELECT owner_id FROM runs WHERE id = :run", run=run_id)
    paused = "SELECT count(*) FROM runs WHERE root_id = :run AND paused_at IS NOT NULL"
    carry_out(steering.pause(owner, run_id))
    assert rows(paused, run=run_id) == [2]
    execute(child_id, 0, 1)
    assert rows("SELECT status, hold FROM node_executions WHERE run_id = :run", run=child_id) == [("QUEUED", "paused")]
    carry_out(steering.resume(owner, run_id))
    assert rows(paused, run=run_id) == [0]
    execute(child_id, 0, 1)
    assert finalise(child_id)
    execute(run_id, 0, 1)
    assert finalise(run_id)


@pytest.mark.parametrize(("act", "paused"), [(steering.pause, 3), (steering.resume, 0)])
def test_a_child_that_is_made_while_its_tree_is_steered_takes_after_its_parent(
    probe: Probe,
    stored: Callable[..., str],
    tree: Callable[..., tuple[UUID, UUID]],
    rows: Rows,
    act: Any,
    paused: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is made after its parent's turn has come near, and before that was taken."""
    below = stored(one_node(probe(passes)))
    run_id, child_id = tree(one_node(probe(passes)))
    owner = owner_of(rows, run_id)
    if act is steering.resume:
        carry_out(steering.pause(owner, run_id))
    made: list[UUID] = []
    real = Step.carry_out

    def carried_out(step: Step) -> Any:
        came = real(step)
        if came == [child_id] and not made:  # its turn is next
            made.append(child_id)
            with transaction() as session:
                child_runs.start_graph(session, child_runs.Caller(Parent(child_id, 0, 1), owner, 5, 1), below, None, {})
        return came

    monkeypatch.setattr(Step, "carry_out", carried_out)
    carry_out(act(owner, run_id))
    assert made
    assert rows("SELECT count(*) FROM runs WHERE root_id = :run", run=run_id) == [3]
    assert rows("SELECT count(*) FROM runs WHERE root_id = :run AND paused_at IS NOT NULL", run=run_id) == [paused]


@pytest.fixture
def wide_tree(
    stored: Callable[..., str], tree: Callable[..., tuple[UUID, UUID]], probe: Probe, rows: Rows
) -> tuple[UUID, UUID]:
    """A run with a child run, which has three child runs; its owner, and the run."""
    below = stored(one_node(probe(passes)))
    run_id, child_id = tree(one_node(probe(passes)))
    owner = owner_of(rows, run_id)
    with transaction() as session:
        for call in range(3):
            parent = Parent(child_id, 0, 1, str(call))
            child_runs.start_graph(session, child_runs.Caller(parent, owner, 5, 1), below, None, {})
    return owner, run_id


PAUSED = "SELECT count(*) FROM runs WHERE root_id = :run AND paused_at IS NOT NULL"
MARKED = "SELECT count(*) FROM runs WHERE passing_down_at IS NOT NULL"


@pytest.mark.parametrize("steps", range(1, 8))
@pytest.mark.parametrize(("act", "paused"), [(steering.pause, 5), (steering.resume, 0)])
def test_what_a_process_did_not_live_to_pass_down_is_passed_down(
    wide_tree: tuple[UUID, UUID], rows: Rows, act: Any, paused: int, steps: int
) -> None:
    owner, run_id = wide_tree
    if act is steering.resume:
        carry_out(steering.pause(owner, run_id))
    dying, came = act(owner, run_id), None
    for _ in range(steps):
        came = dying.send(came).carry_out()
    dying.close()
    assert rows(MARKED) == [1]
    Upkeep(process()).run_pass()
    assert rows(MARKED) == [1], "whoever does it may still live"
    rows(
        "UPDATE runs SET passing_down_at = passing_down_at - interval '11 seconds' WHERE id = :run RETURNING 1",
        run=run_id,
    )
    Upkeep(process()).run_pass()
    assert rows(PAUSED, run=run_id) == [paused]
    assert rows(MARKED) == [0]


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_last_of_several_who_steer_a_tree_at_a_time_is_followed_by_all_of_it(
    wide_tree: tuple[UUID, UUID], rows: Rows, data: st.DataObject
) -> None:
    owner, run_id = wide_tree
    acts = data.draw(st.lists(st.sampled_from([steering.pause, steering.resume]), min_size=2, max_size=4))
    under_way = {number: (act(owner, run_id), None) for number, act in enumerate(acts)}
    last = None
    begun: set[int] = set()
    while under_way:
        number = data.draw(st.sampled_from(sorted(under_way)))
        steps, came = under_way[number]
        try:
            step = steps.send(came)
        except StopIteration:
            del under_way[number]
            continue
        under_way[number] = (steps, step.carry_out())
        if number not in begun:
            begun.add(number)
            last = acts[number]
    assert rows(PAUSED, run=run_id) == [5 if last is steering.pause else 0]
    assert rows(MARKED) == [0]


def test_children_of_a_run_that_ended_without_them_are_stopped(
    probe: Probe, tree: Callable[..., tuple[UUID, UUID]], rows: Rows
) -> None:
    run_id, child_id = tree(one_node(probe(passes)))
    rows("UPDATE node_executions SET status = 'CANCELLED', open = false, hold = NULL, ended_at = now() "
         "WHERE run_id = :run RETURNING 1", run=run_id)  # fmt: skip
    assert process().hot.orphans(10) == [child_id]


def test_a_child_that_was_done_when_its_tree_was_stopped_is_done_when_that_is_retried(
    probe: Probe, tree: Callable[..., tuple[UUID, UUID]], rows: Rows
) -> None:
    run_id, child_id = tree(one_node(probe(passes)))
    execute(child_id, 0, 1)  # all of it is done, and nobody lives to end it
    owner = owner_of(rows, run_id)
    with transaction() as session:
        cancellation.cancel(session, owner, run_id, "by hand")
    assert finalise(child_id)
    assert finalise(run_id)
    both = "SELECT status FROM runs WHERE root_id = :run ORDER BY depth"
    assert rows(both, run=run_id) == ["CANCELLED", "CANCELLED"]
    carry_out(steering.retry(owner, run_id))
    assert finalise(child_id)
    execute(run_id, 0, 1)
    assert finalise(run_id)
    assert rows(both, run=run_id) == ["COMPLETED", "COMPLETED"]
    given = "SELECT value FROM outputs WHERE run_id = :run ORDER BY ordinal DESC LIMIT 1"
    assert rows(given, run=run_id) == ['"COMPLETED"']


@pytest.fixture
def failed_tree(probe: Probe, tree: Callable[..., tuple[UUID, UUID]]) -> Callable[[], tuple[UUID, UUID]]:
    """`failed_tree()`: a run and a child run of it that have both FAILED; the child completes the next time."""

    def fails_once(inputs: Any, context: Context) -> Yields:
        if context.attempt == 1:
            raise RuntimeError("not yet")
        yield "value", 1

    def start() -> tuple[UUID, UUID]:
        run_id, child_id = tree(one_node(probe(fails_once)), calls=fails_with_its_child)
        execute(child_id, 0, 1)
        assert finalise(child_id)
        execute(run_id, 0, 1)
        assert finalise(run_id)
        return run_id, child_id

    return start


@pytest.fixture
def recovery(submit: Submit) -> Iterator[Recovery]:
    """Recovery, on connections of its own."""
    made = Recovery(Process())
    yield made
    made._process.hot.close()


def test_nobody_is_an_orphan_while_its_tree_is_retried(
    failed_tree: Callable[[], tuple[UUID, UUID]], recovery: Recovery, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child run is open again, its parent not yet; and recovery looks just then."""
    run_id, child_id = failed_tree()
    between: list[list[UUID]] = []
    real = steering._retry

    def looked_at_and_retried(session: Any, one: UUID, *more: Any) -> str:
        if one == run_id:  # the child is through
            between.append(recovery._process.hot.orphans(10))
            recovery.stop_orphans()
        return real(session, one, *more)

    monkeypatch.setattr(steering, "_retry", looked_at_and_retried)
    carry_out(steering.retry(owner_of(rows, run_id), run_id))
    between.append(recovery._process.hot.orphans(10))
    assert between == [[child_id], []], "it looked in the midst of it"
    execute(child_id, 0, 1)
    assert finalise(child_id)
    execute(run_id, 0, 1)
    assert finalise(run_id)
    assert rows("SELECT status FROM runs WHERE root_id = :run", run=run_id) == ["COMPLETED", "COMPLETED"]


def test_who_was_an_orphan_when_recovery_looked_and_is_none_any_more_goes_on(
    failed_tree: Callable[[], tuple[UUID, UUID]], recovery: Recovery, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recovery looks, and before it acts the retry is through."""
    run_id, child_id = failed_tree()
    carry_out(steering.retry(owner_of(rows, run_id), run_id))
    monkeypatch.setattr(recovery._process.hot, "orphans", lambda limit: [child_id])
    recovery.stop_orphans()
    assert rows("SELECT stop_as FROM runs WHERE root_id = :run", run=run_id) == [None, None]


def test_what_a_retry_did_not_live_to_finish_is_stopped_and_can_be_retried_anew(
    failed_tree: Callable[[], tuple[UUID, UUID]], recovery: Recovery, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, child_id = failed_tree()
    owner = owner_of(rows, run_id)
    with monkeypatch.context() as patch:
        real = steering._retry

        def dies(session: Any, one: UUID, *more: Any) -> str:
            if one == run_id:
                raise KeyboardInterrupt
            return real(session, one, *more)

        patch.setattr(steering, "_retry", dies)
        with pytest.raises(KeyboardInterrupt):
            carry_out(steering.retry(owner, run_id))
    recovery.stop_orphans()
    assert finalise(child_id)
    assert rows("SELECT status FROM runs WHERE id = :run", run=child_id) == ["CANCELLED"]
    carry_out(steering.retry(owner, run_id))
    execute(child_id, 0, 1)
    assert finalise(child_id)
    execute(run_id, 0, 1)
    assert finalise(run_id)
    assert rows("SELECT status FROM runs WHERE root_id = :run", run=run_id) == ["COMPLETED", "COMPLETED"]


def test_what_waits_holds_back_what_lies_behind_it(probe: Probe, submit: Submit, rows: Rows) -> None:
    def three(inputs: Any, context: Context) -> Yields:
        for number in range(3):
            yield "value", number

    def first_waits(inputs: Any, context: Context) -> Yields:
        if context.index == 1 and context.resumed is None:
            yield Timer(60)
            return
        yield "value", inputs.value

    nodes = [
        {"id": name, "block_id": probe(run), "input_default": {}}
        for name, run in (("each", three), ("some", first_waits), ("last", passes))
    ]
    links = [
        {"source_id": source, "source_name": "value", "sink_id": sink, "sink_name": "value"}
        for source, sink in (("each", "some"), ("some", "last"))
    ]
    run_id = submit({"name": "order", "nodes": nodes, "links": links})
    execute(run_id, 0, 1)
    for idx in (1, 2, 3):
        execute(run_id, 1, idx)
    delivered = "SELECT count(*) FROM deliveries WHERE run_id = :run AND node = 2"
    assert rows(delivered, run=run_id) == [0], "the first still waits"
    rows("UPDATE waits SET until = agentflow_now() WHERE run_id = :run RETURNING 1", run=run_id)
    assert wake_due(run_id, 1, 1)
    execute(run_id, 1, 1)
    for idx in (1, 2, 3):
        execute(run_id, 2, idx)
    values = rows("SELECT value FROM outputs WHERE run_id = :run AND node = 2 ORDER BY idx", run=run_id)
    assert values == ["0", "1", "2"]


def test_a_child_starts_with_its_parent_and_takes_no_place_of_an_active_run(
    probe: Probe, tree: Callable[..., tuple[UUID, UUID]], submit: Submit, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds = "SELECT hold FROM node_executions WHERE run_id = :run"
    monkeypatch.setattr(settings(), "max_active_runs", 2)  # the owner's first run has one place, the parent the other
    run_id, child_id = tree(one_node(probe(passes)))
    other = submit()
    assert (rows(holds, run=child_id), rows(holds, run=other)) == ([None], ["admission"])
    assert not finalise(run_id), "it waits for its child"
    assert rows(holds, run=other) == [None], "the place of a parent that waits is free, and its child has none"
    execute(child_id, 0, 1)
    assert finalise(child_id), "it never waited for a place"


def test_a_parent_that_waits_does_not_keep_the_slot_that_its_child_needs(
    probe: Probe, tree: Callable[..., tuple[UUID, UUID]], rows: Rows
) -> None:
    one = {"key": "api", "limit": 1}
    run_id, child_id = tree(one_node(probe(passes), concurrency=one), {"concurrency": one})
    execute(child_id, 0, 1)
    assert finalise(child_id)
    execute(run_id, 0, 1)
    assert finalise(run_id)
    assert rows("SELECT DISTINCT status FROM runs WHERE root_id = :run", run=run_id) == ["COMPLETED"]


def test_what_a_child_came_to_is_added_to_its_parent(
    probe: Probe, tree: Callable[..., tuple[UUID, UUID]], rows: Rows
) -> None:
    def fails(inputs: Any, context: Context) -> Yields:
        context.report(input_tokens=5)
        raise RuntimeError("it broke")
        yield

    nodes = [
        {"id": "fails", "block_id": probe(fails), "input_default": {}},
        {"id": "told", "block_id": probe(passes, cost=4), "input_default": {}},
    ]
    links = [{"source_id": "fails", "source_name": "error", "sink_id": "told", "sink_name": "value"}]
    run_id, child_id = tree({"name": "child", "nodes": nodes, "links": links})
    for node in (0, 1):
        execute(child_id, node, 1)
    assert finalise(child_id)
    execute(run_id, 0, 1)
    assert finalise(run_id)
    (stats,) = rows("SELECT stats FROM runs WHERE id = :run", run=run_id)
    counted = {key: stats[key] for key in ("node_count", "node_error_count", "cost", "input_tokens", "child_runs")}
    assert counted == {"node_count": 3, "node_error_count": 1, "cost": 4, "input_tokens": 5, "child_runs": 1}


def test_ten_levels_lie_below_a_run_and_no_more(
    probe: Probe, stored: Callable[..., str], submit: Submit, rows: Rows
) -> None:
    known: dict[str, str] = {}

    def itself(inputs: Any, context: Context) -> Yields:
        yield ChildRun(known["graph"])

    document = {"name": "self", "nodes": [{"id": "x", "block_id": probe(itself)}], "links": []}
    known["graph"] = stored(document)
    run_id = submit(document)
    ready = (
        "SELECT e.run_id FROM node_executions e JOIN runs ON id = run_id WHERE e.status = 'QUEUED' AND root_id = :run"
    )
    while found := rows(ready, run=run_id):
        execute(found[0], 0, 1)
    depths = "SELECT depth, e.status FROM runs JOIN node_executions e ON e.run_id = id WHERE root_id = :run ORDER BY 1"
    assert rows(depths, run=run_id) == [*((depth, "WAITING") for depth in range(10)), (10, "FAILED")]


def test_a_graph_may_run_itself_to_its_end(
    probe: Probe, stored: Callable[..., str], submit: Submit, rows: Rows
) -> None:
    known: dict[str, str] = {}
    levels: list[UUID] = []

    def itself(inputs: Any, context: Context) -> Yields:
        if context.resumed is not None:
            yield "value", ["above", context.resumed.value["status"]]
        elif len(levels) < 3:
            levels.append(context.run_id)
            yield ChildRun(known["graph"])
        else:
            yield "value", "the bottom"

    document = {"name": "self", "nodes": [{"id": "x", "block_id": probe(itself)}], "links": []}
    known["graph"] = stored(document)
    run_id = submit(document)
    tree = "SELECT id FROM runs WHERE root_id = :run AND ended_at IS NULL ORDER BY depth DESC LIMIT 1"
    while deepest := rows(tree, run=run_id):
        execute(deepest[0], 0, 1)
        finalise(deepest[0])
    ends = "SELECT depth, status FROM runs WHERE root_id = :run ORDER BY depth"
    assert rows(ends, run=run_id) == [(depth, "COMPLETED") for depth in range(4)]


def test_a_retry_that_is_refused_because_its_run_goes_on_leaves_the_children_alone(
    probe: Probe, submit: Submit, rows: Rows
) -> None:
    known: dict[str, str] = {}

    def fails(inputs: Any, context: Context) -> Yields:
        raise RuntimeError("it broke")
        yield

    def calls(inputs: Any, context: Context) -> Yields:
        if context.resumed is not None:
            raise RuntimeError("my child failed")
        yield ChildRun(known["graph"])

    def sleeps(inputs: Any, context: Context) -> Yields:
        yield Timer(3600)

    submit()  # makes the owner
    (owner,) = rows("SELECT owner_id FROM runs LIMIT 1")
    with transaction() as session:
        known["graph"] = str(graphs.create(session, owner, one_node(probe(fails))).id)
    nodes = [{"id": name, "block_id": probe(run)} for name, run in (("sub", calls), ("other", sleeps))]
    run_id = submit({"name": "root", "nodes": nodes, "links": []})
    for node in (0, 1):
        execute(run_id, node, 1)
    (child_id,) = rows("SELECT id FROM runs WHERE parent_run_id = :run", run=run_id)
    execute(child_id, 0, 1)
    assert finalise(child_id)
    execute(run_id, 0, 1)
    with pytest.raises(Conflict, match="has not ended"):
        carry_out(steering.retry(owner, run_id))
    assert rows("SELECT status, retry_no FROM runs WHERE id = :run", run=child_id) == [("FAILED", 0)]


def test_a_retry_of_the_node_that_waits_for_a_child_runs_again_what_failed_in_the_child(
    probe: Probe, stored: Callable[..., str], submit: Submit, rows: Rows
) -> None:
    ran: list[str] = []

    def first(inputs: Any, context: Context) -> Yields:
        ran.append("first")
        yield "value", 1

    def fails_twice(inputs: Any, context: Context) -> Yields:
        ran.append("second")
        if ran.count("second") < 3:
            raise RuntimeError("not yet")
        yield "value", inputs.value + 1

    nodes = [
        {"id": "a", "block_id": probe(first), "input_default": {}},
        {"id": "b", "block_id": probe(fails_twice), "input_default": {}},
        *(
            {"id": f"out {id}", "block_id": registry.by_name("AgentOutput").id, "input_default": {"name": id}}
            for id in ("a", "b")
        ),
    ]
    links = [
        {"source_id": source, "source_name": "value", "sink_id": sink, "sink_name": "value"}
        for source, sink in (("a", "b"), ("a", "out a"), ("b", "out b"))
    ]
    graph_id = stored({"name": "child", "nodes": nodes, "links": links})
    retry = {"retry": {"max_failures": 2, "base": 0, "on": ["block"]}}
    sub = {"id": "sub", "block_id": AGENT_BLOCK, "settings": retry}
    sub["input_default"] = {
        "graph_id": graph_id,
        "graph_version": 1,
        "inputs": {},
        "input_schema": {},
        "output_schema": {},
    }
    run_id = submit({"name": "root", "nodes": [sub], "links": []})
    some = "SELECT run_id, node, idx FROM node_executions WHERE status = 'QUEUED' ORDER BY run_id DESC, node"
    opened = "SELECT id FROM runs WHERE ended_at IS NULL ORDER BY id DESC"
    while rows(opened):
        for one in rows(some):
            execute(*one)
        for one in rows(opened):
            finalise(one)
    assert rows("SELECT status FROM runs WHERE root_id = :run", run=run_id) == ["COMPLETED", "COMPLETED"]
    assert ran == ["first", "second", "second", "second"], "what completed in the child does not run twice"
    given = rows("SELECT pin, value FROM outputs WHERE run_id = :run ORDER BY ordinal", run=run_id)
    assert [one for one in given if one[0] != "error"] == [("a", "1"), ("b", "2")], "each once"


def test_what_is_done_to_a_run_and_set_for_it_reaches_all_levels_below(
    probe: Probe, tree: Callable[..., tuple[UUID, UUID]], rows: Rows
) -> None:
    def sleeps(inputs: Any, context: Context) -> Yields:
        yield Timer(3600)

    below: dict[str, str] = {}

    def calls(inputs: Any, context: Context) -> Yields:
        yield ChildRun(below["graph"])

    run_id, child_id = tree(one_node(probe(calls)), priority=7, nodes_input_masks={"x": {"value": "masked"}})
    (owner,) = rows("SELECT owner_id FROM runs WHERE id = :run", run=run_id)
    with transaction() as session:
        below["graph"] = str(graphs.create(session, owner, one_node(probe(sleeps))).id)
    execute(child_id, 0, 1)
    (grandchild_id,) = rows("SELECT id FROM runs WHERE parent_run_id = :run", run=child_id)
    execute(grandchild_id, 0, 1)
    inherited = "SELECT DISTINCT owner_id, priority, masks FROM runs WHERE root_id = :run"
    assert len(rows(inherited, run=run_id)) == 1
    paused = "SELECT count(*) FILTER (WHERE paused_at IS NOT NULL) FROM runs WHERE root_id = :run"
    carry_out(steering.pause(owner, run_id))
    assert rows(paused, run=run_id) == [3]
    carry_out(steering.resume(owner, run_id))
    assert rows(paused, run=run_id) == [0]
    with transaction() as session:
        cancellation.cancel(session, owner, run_id, "enough")
    for one in (grandchild_id, child_id, run_id):
        assert finalise(one)
    ended = rows("SELECT status, reason FROM runs WHERE root_id = :run ORDER BY depth", run=run_id)
    told = ("CANCELLED", "the run that it belongs to was stopped")
    assert ended == [("CANCELLED", "enough"), told, told]
