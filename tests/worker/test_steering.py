"""A run is paused, goes on, is retried and forked: what completed stays, and nothing runs twice."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from probes import Chain, Outputs, Probe, Rows, Statuses, Submit, Yields, owner_of, passes
from steps import execute

from agentflow.blocks import registry
from agentflow.blocks.base import Context
from agentflow.engine.waits import ChildRun
from agentflow.errors import AlreadyEnded, BadInput, Conflict, GraphInvalid, NotFound, Transient
from agentflow.ids import new_id
from agentflow.services import cancellation, graphs, steering
from agentflow.services.cancellation import cancel
from agentflow.services.transaction import carry_out, transaction
from agentflow.settings import settings
from agentflow.storage.views.runs import RunFilter
from agentflow.worker.finalise import finalise
from agentflow.worker.process import process
from agentflow.worker.upkeep import Upkeep

pytestmark = pytest.mark.timeout(60, method="thread")


def fork(owner_id: UUID, run_id: UUID, from_node: str, inputs: dict[str, Any]) -> Any:
    with transaction() as session:
        return steering.fork(session, owner_id, run_id, from_node, inputs)


def status_of(rows: Rows, run_id: UUID) -> str:
    (found,) = rows("SELECT status FROM runs WHERE id = :run", run=run_id)
    return str(found)


def work(rows: Rows, run_id: UUID) -> None:
    """Execute what is QUEUED in the run until nothing is, then see to the run."""
    recovery = Upkeep(process())
    while True:
        recovery.run_pass()
        ready = rows(
            "SELECT node, idx FROM node_executions WHERE run_id = :run AND status = 'QUEUED' AND hold IS NULL",
            run=run_id,
        )
        if not ready:
            break
        for node, idx in ready:
            execute(run_id, node, idx)
    finalise(run_id)


def test_nothing_of_a_paused_run_starts_and_resume_goes_on(
    probe: Probe, chain: Chain, statuses: Statuses, rows: Rows
) -> None:
    run_id = chain(probe(passes), probe(passes), value=1)
    owner = owner_of(rows, run_id)
    assert carry_out(steering.pause(owner, run_id)).paused_at is not None
    carry_out(steering.pause(owner, run_id))
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "QUEUED"}
    assert not finalise(run_id), "it has something left to do"
    assert carry_out(steering.resume(owner, run_id)).paused_at is None
    carry_out(steering.resume(owner, run_id))
    work(rows, run_id)
    assert statuses(run_id) == {"0/1": "COMPLETED", "1/1": "COMPLETED"}
    assert status_of(rows, run_id) == "COMPLETED"
    with pytest.raises(AlreadyEnded):
        carry_out(steering.pause(owner, run_id))
    with pytest.raises(AlreadyEnded):
        carry_out(steering.resume(owner, run_id))
    with pytest.raises(NotFound):
        carry_out(steering.pause(new_id(), run_id))


def test_what_runs_when_its_run_is_paused_finishes_and_is_stored(
    probe: Probe, chain: Chain, statuses: Statuses, rows: Rows
) -> None:
    def pauses(inputs: Any, context: Context) -> Yields:
        carry_out(steering.pause(owner_of(rows, context.run_id), context.run_id))
        yield "value", 1

    run_id = chain(probe(pauses), probe(passes))
    execute(run_id, 0, 1)
    execute(run_id, 1, 1)
    assert statuses(run_id) == {"0/1": "COMPLETED", "1/1": "QUEUED"}
    carry_out(steering.resume(owner_of(rows, run_id), run_id))
    work(rows, run_id)
    assert statuses(run_id)["1/1"] == "COMPLETED"


def test_a_paused_run_with_nothing_left_to_do_ends(probe: Probe, chain: Chain, rows: Rows) -> None:
    def pauses(inputs: Any, context: Context) -> Yields:
        carry_out(steering.pause(owner_of(rows, context.run_id), context.run_id))
        yield "value", 1

    run_id = chain(probe(pauses))
    execute(run_id, 0, 1)
    assert finalise(run_id)
    assert status_of(rows, run_id) == "COMPLETED"


def once(calls: list[Any]) -> Callable[[Any, Context], Yields]:
    """A block that yields a number, fails the first time, and yields its input the second."""

    def run(inputs: Any, context: Context) -> Yields:
        calls.append(inputs.value)
        yield "number", 7
        if len(calls) == 1:
            raise BadInput("not yet")
        yield "value", inputs.value

    return run


def test_a_retry_runs_again_what_failed_and_what_follows_but_nothing_that_completed(
    probe: Probe, chain: Chain, statuses: Statuses, outputs: Outputs, rows: Rows
) -> None:
    first: list[Any] = []
    calls: list[Any] = []

    def counts(inputs: Any, context: Context) -> Yields:
        first.append(1)
        yield "value", "in"

    run_id = chain(probe(counts), probe(once(calls)), probe(passes))
    owner = owner_of(rows, run_id)
    with pytest.raises(Conflict, match="has not ended"):
        carry_out(steering.retry(owner, run_id))
    work(rows, run_id)
    assert status_of(rows, run_id) == "FAILED"
    assert outputs(run_id, 1) == [("number", 7), ("error", "not yet")]
    again = carry_out(steering.retry(owner, run_id))
    assert (again.status, again.retries, again.error, again.ended_at) == ("RUNNING", 1, None, None)
    work(rows, run_id)
    assert statuses(run_id) == {"0/1": "COMPLETED", "1/1": "COMPLETED", "2/1": "COMPLETED"}
    assert status_of(rows, run_id) == "COMPLETED"
    assert (first, calls) == ([1], ["in", "in"])
    assert outputs(run_id, 1) == [("number", 7), ("value", "in"), ("error", "not yet")], "the number came once"
    with pytest.raises(Conflict, match="has completed"):
        carry_out(steering.retry(owner, run_id))


def test_a_failure_that_was_handled_stays(probe: Probe, submit: Submit, statuses: Statuses, rows: Rows) -> None:
    calls: list[Any] = []
    other: list[Any] = []
    nodes = [
        {"id": "handled", "block_id": probe(once(calls)), "input_default": {"value": 1}},
        {"id": "handler", "block_id": probe(passes), "input_default": {}},
        {"id": "other", "block_id": probe(once(other)), "input_default": {"value": 2}},
    ]
    links = [{"source_id": "handled", "source_name": "error", "sink_id": "handler", "sink_name": "value"}]
    run_id = submit({"name": "handled", "nodes": nodes, "links": links})
    work(rows, run_id)
    carry_out(steering.retry(owner_of(rows, run_id), run_id))
    work(rows, run_id)
    assert statuses(run_id) == {"0/1": "FAILED user", "1/1": "COMPLETED", "2/1": "COMPLETED"}
    assert (len(calls), len(other)) == (1, 2)
    assert status_of(rows, run_id) == "COMPLETED"


def test_a_cancelled_run_goes_on_where_it_was(
    probe: Probe, submit: Submit, statuses: Statuses, rows: Rows, outputs: Outputs
) -> None:
    def three(inputs: Any, context: Context) -> Yields:
        for number in range(3):
            yield "value", number

    nodes = [
        {"id": "each", "block_id": probe(three), "input_default": {}},
        {"id": "map", "block_id": probe(passes), "input_default": {}},
        {"id": "last", "block_id": probe(passes), "input_default": {}},
    ]
    links = [
        {"source_id": "each", "source_name": "value", "sink_id": "map", "sink_name": "value"},
        {"source_id": "map", "source_name": "value", "sink_id": "last", "sink_name": "value"},
    ]
    run_id = submit({"name": "map", "nodes": nodes, "links": links})
    execute(run_id, 0, 1)
    execute(run_id, 1, 2)  # the second is done before the first: its output waits for its turn
    with transaction() as session:
        cancel(session, owner_of(rows, run_id), run_id, "enough")
    assert finalise(run_id)
    assert statuses(run_id) == {"0/1": "COMPLETED", "1/1": "CANCELLED", "1/2": "COMPLETED", "1/3": "CANCELLED"}
    carry_out(steering.retry(owner_of(rows, run_id), run_id))
    work(rows, run_id)
    assert status_of(rows, run_id) == "COMPLETED"
    assert outputs(run_id, 2) == [("value", 0), ("value", 1), ("value", 2)], "in order, each once"


def test_a_child_run_is_retried_through_its_root(
    probe: Probe, chain: Chain, statuses: Statuses, rows: Rows, outputs: Outputs
) -> None:
    calls: list[Any] = []

    def parent(inputs: Any, context: Context) -> Yields:
        if context.resumed is None:
            yield ChildRun(known["graph"])  # type: ignore[misc]
        elif context.resumed.value["status"] == "RUNNING":
            yield ChildRun(known["graph"], cursor=context.resumed.value["cursor"])  # type: ignore[misc]
        elif context.resumed.value["status"] == "COMPLETED":
            yield "value", "done"
        else:
            raise BadInput("my child failed")

    known: dict[str, str] = {}
    run_id = chain(probe(passes))
    owner = owner_of(rows, run_id)
    with transaction() as session:
        document = {"name": "child", "nodes": [{"id": "x", "block_id": probe(once(calls))}], "links": []}
        known["graph"] = str(graphs.create(session, owner, document).id)
    run_id = chain(probe(parent))
    execute(run_id, 0, 1)
    (child,) = rows("SELECT id FROM runs WHERE parent_run_id = :run", run=run_id)
    work(rows, child)
    work(rows, run_id)
    assert (status_of(rows, child), status_of(rows, run_id)) == ("FAILED", "FAILED")
    with pytest.raises(Conflict, match=str(run_id)):
        carry_out(steering.retry(owner, child))
    carry_out(steering.retry(owner, run_id))
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "WAITING"}
    work(rows, child)
    work(rows, run_id)
    assert (status_of(rows, child), status_of(rows, run_id)) == ("COMPLETED", "COMPLETED")
    assert len(calls) == 2


def test_a_run_that_was_stopped_when_all_was_done_completes_when_it_is_retried(
    probe: Probe, chain: Chain, rows: Rows
) -> None:
    calls: list[Any] = []
    run_id = chain(probe(once(calls)), value=1, settings={"retry": {"max_failures": 1, "on": ["user"], "base": 0}})
    owner = owner_of(rows, run_id)
    execute(run_id, 0, 1)
    execute(run_id, 0, 1)
    with transaction() as session:
        cancel(session, owner, run_id, "late")
    assert finalise(run_id)
    assert status_of(rows, run_id) == "CANCELLED"
    carry_out(steering.retry(owner, run_id))
    assert finalise(run_id)
    assert status_of(rows, run_id) == "COMPLETED"
    assert len(calls) == 2, "nothing runs again"
    with pytest.raises(Conflict, match="has completed"):
        carry_out(steering.retry(owner, run_id))


@pytest.mark.parametrize("size", [None, 1, 2, 3, 5, 7])
@pytest.mark.parametrize("active_runs", [1, 20])
def test_a_gather_gives_its_remainder_after_a_retry_of_a_run_that_was_stopped_before_it_could(
    submit: Submit, rows: Rows, outputs: Outputs, monkeypatch: pytest.MonkeyPatch, size: int | None, active_runs: int
) -> None:
    monkeypatch.setattr(settings(), "max_active_runs", active_runs)
    block = {name: registry.by_name(name).id for name in ("StepThroughItems", "Gather")}
    nodes = [
        {"id": "each", "block_id": block["StepThroughItems"], "input_default": {"items": [1, 2, 3, 4, 5]}},
        {"id": "gather", "block_id": block["Gather"], "input_default": {} if size is None else {"size": size}},
    ]
    links = [{"source_id": "each", "source_name": "item", "sink_id": "gather", "sink_name": "item"}]
    run_id = submit({"name": "gathers", "nodes": nodes, "links": links})
    ready = "SELECT node, idx FROM node_executions WHERE run_id = :run AND status = 'QUEUED'"
    while found := rows(ready, run=run_id):
        for node, idx in found:
            execute(run_id, node, idx)
    owner = owner_of(rows, run_id)
    with transaction() as session:
        cancel(session, owner, run_id, "before it was finalised")
    assert finalise(run_id)
    assert status_of(rows, run_id) == "CANCELLED"
    carry_out(steering.retry(owner, run_id))
    work(rows, run_id)
    assert status_of(rows, run_id) == "COMPLETED"
    most = size or 5
    groups = [[1, 2, 3, 4, 5][first : first + most] for first in range(0, 5, most)]
    assert [value for pin, value in outputs(run_id, 1) if pin == "items"] == groups


def diamond(probe: Probe, ran: list[str]) -> dict[str, Any]:
    """a → b → d ← c ← a, where each notes that it ran."""

    def noting(name: str) -> Callable[[Any, Context], Yields]:
        def run(inputs: Any, context: Context) -> Yields:
            ran.append(name)
            yield "value", f"{inputs.value}{name}"

        return run

    nodes = [{"id": name, "block_id": probe(noting(name)), "input_default": {}} for name in "abcd"]
    nodes[0]["input_default"] = {"value": ">"}
    links = [
        {"source_id": source, "source_name": "value", "sink_id": sink, "sink_name": pin}
        for source, sink, pin in (
            ("a", "b", "value"),
            ("a", "c", "value"),
            ("b", "d", "value"),
            ("c", "d", "more"),
        )
    ]
    return {"name": "diamond", "nodes": nodes, "links": links}


def test_a_fork_takes_over_what_lies_upstream_and_runs_the_rest(
    probe: Probe, submit: Submit, statuses: Statuses, rows: Rows, outputs: Outputs
) -> None:
    from agentflow.blocks.base import BlockInput

    class Two(BlockInput):
        value: Any = None
        more: Any = None

    ran: list[str] = []
    run_id = submit(diamond(lambda run: probe(run, Input=Two), ran))
    owner = owner_of(rows, run_id)
    with pytest.raises(Conflict, match="has not ended"):
        fork(owner, run_id, "b", {})
    work(rows, run_id)
    assert sorted(ran) == ["a", "b", "c", "d"]
    ran.clear()
    forked = fork(owner, run_id, "b", {})
    assert forked.forked_from == run_id
    work(rows, forked.id)
    assert ran == ["b", "d"]
    assert [outputs(forked.id, number) for number in range(4)] == [outputs(run_id, number) for number in range(4)]
    assert status_of(rows, forked.id) == "COMPLETED"
    ran.clear()
    other = fork(owner, run_id, "b", {"value": "!"})
    work(rows, other.id)
    assert outputs(other.id, 1) == [("value", "!b")]
    assert ran == ["b", "d"]
    with pytest.raises(GraphInvalid):
        fork(owner, run_id, "nowhere", {})
    with pytest.raises(NotFound):
        fork(new_id(), run_id, "b", {})


def test_a_fork_pairs_executions_as_they_were(probe: Probe, submit: Submit, rows: Rows, outputs: Outputs) -> None:
    def many(inputs: Any, context: Context) -> Yields:
        for number in range(5):
            yield "value", number

    nodes = [
        {"id": "each", "block_id": probe(many), "input_default": {}},
        {"id": "map", "block_id": probe(passes), "input_default": {}},
    ]
    links = [{"source_id": "each", "source_name": "value", "sink_id": "map", "sink_name": "value"}]
    run_id = submit({"name": "map", "nodes": nodes, "links": links})
    work(rows, run_id)
    forked = fork(owner_of(rows, run_id), run_id, "map", {})
    work(rows, forked.id)
    assert outputs(forked.id, 1) == [("value", number) for number in range(5)]


def test_a_retry_that_is_put_off_by_a_pause_is_rung_when_it_is_due(probe: Probe, chain: Chain, rows: Rows) -> None:
    def fails(inputs: Any, context: Context) -> Yields:
        raise Transient("not now")
        yield

    run_id = chain(probe(fails), settings={"retry": {"max_failures": 1, "base": 100, "jitter": False}})
    execute(run_id, 0, 1)
    owner = owner_of(rows, run_id)
    carry_out(steering.pause(owner, run_id))
    execute(run_id, 0, 1)  # a message that came twice
    assert rows("SELECT hold FROM node_executions WHERE run_id = :run", run=run_id) == ["paused"]
    carry_out(steering.resume(owner, run_id))
    assert rows("SELECT check_at = due_at FROM node_executions WHERE run_id = :run", run=run_id) == [True]


def test_a_fork_gets_what_a_stop_had_kept_from_being_delivered(
    probe: Probe, submit: Submit, rows: Rows, outputs: Outputs
) -> None:
    def many(inputs: Any, context: Context) -> Yields:
        for number in range(4):
            yield "value", number

    nodes = [{"id": id, "block_id": probe(run)} for id, run in (("each", many), ("map", passes), ("last", passes))]
    links = [
        {"source_id": source, "source_name": "value", "sink_id": sink, "sink_name": "value"}
        for source, sink in (("each", "map"), ("map", "last"))
    ]
    run_id = submit({"name": "map", "nodes": nodes, "links": links})
    for node, idx in ((0, 1), (1, 1), (1, 4), (1, 3)):  # 3 and 4 wait for 2
        execute(run_id, node, idx)
    owner = owner_of(rows, run_id)
    with transaction() as session:
        cancel(session, owner, run_id, "user")
    finalise(run_id)
    forked = fork(owner, run_id, "last", {})
    work(rows, forked.id)
    assert outputs(forked.id, 2) == [("value", number) for number in (0, 2, 3)]


def test_a_node_of_a_cycle_is_no_place_to_fork(probe: Probe, submit: Submit, rows: Rows) -> None:
    def stops(inputs: Any, context: Context) -> Yields:
        if context.index < 3:
            yield "value", context.index

    nodes = [
        {"id": "start", "block_id": probe(passes), "input_default": {"value": 0}},
        {"id": "loop", "block_id": probe(stops), "input_default": {}},
    ]
    links = [
        {"source_id": source, "source_name": "value", "sink_id": "loop", "sink_name": "value"}
        for source in ("start", "loop")
    ]
    run_id = submit({"name": "loop", "nodes": nodes, "links": links})
    work(rows, run_id)
    with pytest.raises(Conflict, match="part of a cycle"):
        fork(owner_of(rows, run_id), run_id, "loop", {})


def test_runs_are_cancelled_by_what_they_have_in_common(probe: Probe, chain: Chain, rows: Rows) -> None:
    run_ids = [chain(probe(passes)) for _ in range(3)]
    owner = owner_of(rows, run_ids[0])
    rows('UPDATE runs SET labels = \'{"a": "b"}\' WHERE id = ANY (:some) RETURNING 1', some=run_ids[:2])
    cancelled = carry_out(cancellation.cancel_all(owner, RunFilter(labels={"a": "b"}), "all of them"))
    assert set(cancelled.cancelled) == set(run_ids[:2])
    assert (cancelled.count, cancelled.more) == (2, False)
    assert rows("SELECT count(*) FROM runs WHERE stop_as = 'CANCELLED'") == [2]
    assert carry_out(cancellation.cancel_all(new_id(), RunFilter(), "not mine")).count == 0
