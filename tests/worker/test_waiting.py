"""Waiting without a worker: a node execution goes to sleep as a row, and goes on where it stopped."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from probes import Chain, Outputs, Probe, Rows, Statuses, Yields, owner_of
from steps import claimed, execute, wake_due

from agentflow.blocks.base import Context
from agentflow.engine.execution import ExecutionKey, Lease
from agentflow.engine.statuses import ReviewStatus
from agentflow.engine.verdict import OWN_COUNTS
from agentflow.engine.waits import ChildRun, Event, NodeCall, Resumed, Review, Timer, Wait
from agentflow.errors import AlreadyEnded, Conflict, NotFound, TooMany, Transient
from agentflow.ids import new_id, new_token
from agentflow.services import graphs, reviews, steering
from agentflow.services.cursors import PageRequest
from agentflow.services.transaction import carry_out, transaction
from agentflow.settings import Settings, settings
from agentflow.worker.finalise import finalise
from agentflow.worker.process import process
from agentflow.worker.upkeep import Upkeep

pytestmark = pytest.mark.timeout(60, method="thread")


def sleeper(*waits: Wait, seen: list[Resumed | None] | None = None) -> Callable[[Any, Context], Yields]:
    """A block that yields a number before each wait, and at the end what it was called with."""

    def run(inputs: Any, context: Context) -> Yields:
        if seen is not None:
            seen.append(context.resumed)
        done = context.resumed.state if context.resumed else 0
        yield "number", done
        if done < len(waits):
            yield waits[done]
            raise AssertionError("a wait is the last act")
        yield "value", context.resumed.value if context.resumed else None

    return run


def due(run_id: UUID, node: int = 0, idx: int = 1) -> bool:
    return wake_due(run_id, node, idx)


def hurry(rows: Rows) -> None:
    """The time that everything waits for has come."""
    rows("UPDATE waits SET until = agentflow_now() WHERE open RETURNING 1")
    rows("UPDATE node_executions SET check_at = agentflow_now() WHERE status = 'WAITING' RETURNING 1")


def run_status(rows: Rows, run_id: UUID) -> str:
    (found,) = rows("SELECT status || coalesce(' ' || reason, '') FROM runs WHERE id = :run", run=run_id)
    return str(found)


def test_a_timer_is_a_row_and_the_outputs_go_on_where_they_stopped(
    probe: Probe, chain: Chain, statuses: Statuses, outputs: Outputs, rows: Rows
) -> None:
    seen: list[Resumed | None] = []
    run_id = chain(probe(sleeper(Timer(60, state=1), Timer(3600, state=2), seen=seen)))
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "WAITING"}
    assert not finalise(run_id)
    assert run_status(rows, run_id) == "WAITING"
    hurry(rows)
    assert due(run_id)
    assert not due(run_id), "it is awake"
    execute(run_id, 0, 1)
    assert run_status(rows, run_id) == "RUNNING"
    assert statuses(run_id) == {"0/1": "WAITING"}
    assert not due(run_id), "not for an hour"
    hurry(rows)
    assert due(run_id)
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "COMPLETED"}
    assert outputs(run_id) == [("number", 0), ("number", 1), ("number", 2), ("value", None)]
    assert seen == [None, Resumed("timer", None, 1), Resumed("timer", None, 2)]
    assert finalise(run_id)
    assert run_status(rows, run_id) == "COMPLETED"


def test_a_timer_of_no_time_is_a_checkpoint_that_goes_on_at_once(
    probe: Probe, chain: Chain, statuses: Statuses, outputs: Outputs, rows: Rows
) -> None:
    seen: list[Resumed | None] = []
    run_id = chain(probe(sleeper(Timer(0, state=1), seen=seen)))
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "QUEUED"}
    assert run_status(rows, run_id) == "RUNNING"
    execute(run_id, 0, 1)
    assert outputs(run_id) == [("number", 0), ("number", 1), ("value", None)]
    assert seen == [None, Resumed("timer", None, 1)]


def test_recovery_wakes_what_is_due_and_lets_the_rest_sleep(
    probe: Probe, chain: Chain, statuses: Statuses, rows: Rows
) -> None:
    run_id = chain(probe(sleeper(Timer(60, state=1), Timer(3600, state=2))))
    execute(run_id, 0, 1)
    hurry(rows)
    recovery = Upkeep(process())
    for expected in ("QUEUED", "WAITING", "WAITING"):
        recovery.run_pass()
        assert statuses(run_id) == {"0/1": expected}
        execute(run_id, 0, 1)
    Upkeep(process()).run_pass()
    assert run_status(rows, run_id) == "WAITING", "a pass sees to a run in which nothing is busy"


def test_what_failed_after_a_wait_goes_on_after_the_wait(
    probe: Probe, chain: Chain, statuses: Statuses, outputs: Outputs
) -> None:
    calls: list[Any] = []

    def run(inputs: Any, context: Context) -> Yields:
        calls.append(context.resumed)
        if context.resumed is None:
            yield "value", "before"
            yield Timer(0, state={"kept": [1]})
            return
        yield "value", "after"
        if len(calls) == 2:
            raise Transient("once")

    run_id = chain(probe(run), settings={"retry": {"max_failures": 1, "base": 0}})
    execute(run_id, 0, 1)
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "QUEUED transient"}
    execute(run_id, 0, 1)
    assert outputs(run_id) == [("value", "before"), ("value", "after")]
    assert calls == [None, Resumed("timer", None, {"kept": [1]}), Resumed("timer", None, {"kept": [1]})]


@pytest.mark.parametrize(
    "wait",
    [
        Timer(-1),
        Timer(float("nan")),
        Timer(1e12),
        Timer(1, state=object()),
        Event(""),
        Event("x" * 201),
        Review(object()),
        NodeCall("nowhere"),
        ChildRun("no-id"),
        ChildRun(str(new_id())),
    ],
)
def test_a_wait_that_cannot_be_fails_the_node_execution(
    wait: Wait, probe: Probe, chain: Chain, statuses: Statuses
) -> None:
    run_id = chain(probe(sleeper(wait)))
    execute(run_id, 0, 1)
    (status,) = statuses(run_id).values()
    assert status in ("FAILED block", "FAILED user")


def test_an_event_wakes_the_one_that_has_waited_longest_and_others_are_kept(
    probe: Probe, chain: Chain, statuses: Statuses, outputs: Outputs, rows: Rows
) -> None:
    run_id = chain(probe(sleeper(Event("go", state=1))))
    owner = owner_of(rows, run_id)
    with transaction() as session:
        assert not reviews.signal(session, owner, run_id, "other", 1).taken
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "WAITING"}
    with transaction() as session:
        assert reviews.signal(session, owner, run_id, "go", {"b": 1, "a": 2}).taken
    with transaction() as session:
        assert not reviews.signal(session, owner, run_id, "go", "too late").taken
    execute(run_id, 0, 1)
    assert outputs(run_id)[-1] == ("value", {"b": 1, "a": 2})


def test_an_event_that_came_before_is_found_at_once_and_taken_once(
    probe: Probe, chain: Chain, statuses: Statuses, outputs: Outputs, rows: Rows
) -> None:
    run_id = chain(probe(sleeper(Event("go", state=1), Event("go", state=2))))
    owner = owner_of(rows, run_id)
    for payload in ("first", "second"):
        with transaction() as session:
            assert not reviews.signal(session, owner, run_id, "go", payload).taken
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "QUEUED"}
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "QUEUED"}
    execute(run_id, 0, 1)
    assert outputs(run_id)[-1] == ("value", "second")


def test_an_event_in_vain_is_refused(probe: Probe, chain: Chain, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = chain(probe(sleeper()))
    owner = owner_of(rows, run_id)
    monkeypatch.setattr(settings(), "max_signals", 2)
    for number in range(2):
        with transaction() as session:
            reviews.signal(session, owner, run_id, "go", number)
    with pytest.raises(TooMany, match="keeps 2 events"), transaction() as session:
        reviews.signal(session, owner, run_id, "go", 3)
    with pytest.raises(NotFound), transaction() as session:
        reviews.signal(session, new_id(), run_id, "go", 3)
    execute(run_id, 0, 1)
    assert finalise(run_id)
    with pytest.raises(AlreadyEnded), transaction() as session:
        reviews.signal(session, owner, run_id, "go", 3)


def test_what_does_not_come_in_time_is_said_to_have_timed_out(
    probe: Probe, chain: Chain, statuses: Statuses, rows: Rows
) -> None:
    seen: list[Resumed | None] = []
    run_id = chain(probe(sleeper(Event("go", state=1, timeout=0), Review("x", state=2, timeout=0), seen=seen)))
    for _ in range(2):
        execute(run_id, 0, 1)
        assert due(run_id)
    execute(run_id, 0, 1)
    assert seen == [None, Resumed("event", None, 1, True), Resumed("review", None, 2, True)]
    assert rows("SELECT status FROM reviews") == ["EXPIRED"]


def waiting_reviews(owner: UUID) -> list[Any]:
    with transaction() as session:
        return list(reviews.page(session, owner, ReviewStatus.WAITING, None, PageRequest(None, 50)).items)


def test_a_review_is_listed_and_its_data_edited(probe: Probe, chain: Chain, outputs: Outputs, rows: Rows) -> None:
    run_id = chain(probe(sleeper(Review({"text": "draft"}, "The text", editable=True, state=1))))
    execute(run_id, 0, 1)
    owner = owner_of(rows, run_id)
    (review,) = waiting_reviews(owner)
    assert (review.run_id, review.node_id, review.index, review.name, review.data, review.editable) == (
        run_id,
        "n0",
        1,
        "The text",
        {"text": "draft"},
        True,
    )
    assert waiting_reviews(new_id()) == []
    with pytest.raises(NotFound), transaction() as session:
        reviews.approve(session, new_id(), review.id, "", None, False)
    with transaction() as session:
        decided = reviews.approve(session, owner, review.id, "fine", ({"text": "final"},), False)
    assert (decided.status, decided.decided, decided.message) == ("APPROVED", {"text": "final"}, "fine")
    with pytest.raises(Conflict, match="APPROVED already"), transaction() as session:
        reviews.reject(session, owner, review.id, "no")
    execute(run_id, 0, 1)
    assert outputs(run_id)[-1] == ("value", {"approved": True, "data": {"text": "final"}, "message": "fine"})
    assert waiting_reviews(owner) == []


@pytest.mark.parametrize("odd", ["x\0y", "\ud800", '\\u0000 "', "\udfff\0"])
def test_a_review_of_what_postgresql_has_no_form_for_is_shown_and_approved_as_it_is(
    probe: Probe, chain: Chain, outputs: Outputs, rows: Rows, odd: str
) -> None:
    data = {odd: [odd, {"a": odd}]}
    run_id = chain(probe(sleeper(Review(data, f"about {odd}", state=1))))
    execute(run_id, 0, 1)
    owner = owner_of(rows, run_id)
    (review,) = waiting_reviews(owner)
    assert review.data == data
    with transaction() as session:
        reviews.approve(session, owner, review.id, "fine", None, False)
    execute(run_id, 0, 1)
    assert outputs(run_id)[-1] == ("value", {"approved": True, "data": data, "message": "fine"})


def test_what_is_not_editable_is_approved_as_it_is_or_rejected(
    probe: Probe, chain: Chain, outputs: Outputs, rows: Rows
) -> None:
    run_id = chain(probe(sleeper(Review([1], state=1))))
    execute(run_id, 0, 1)
    owner = owner_of(rows, run_id)
    (review,) = waiting_reviews(owner)
    with pytest.raises(Conflict, match="may not be edited"), transaction() as session:
        reviews.approve(session, owner, review.id, "", ([2],), False)
    with transaction() as session:
        reviews.reject(session, owner, review.id, "no")
    execute(run_id, 0, 1)
    assert outputs(run_id)[-1] == ("value", {"approved": False, "data": [1], "message": "no"})


def test_the_rest_of_a_node_is_approved_now_and_later(
    probe: Probe, submit: Callable[..., UUID], statuses: Statuses, rows: Rows
) -> None:
    def three(inputs: Any, context: Context) -> Yields:
        for number in range(3):
            yield "value", number

    asks = sleeper(Review("data", state=1))
    nodes = [
        {"id": "n0", "block_id": probe(three), "input_default": {}},
        {"id": "n1", "block_id": probe(asks), "input_default": {}},
    ]
    links = [{"source_id": "n0", "source_name": "value", "sink_id": "n1", "sink_name": "value"}]
    run_id = submit({"name": "reviews", "nodes": nodes, "links": links})
    execute(run_id, 0, 1)
    execute(run_id, 1, 1)
    execute(run_id, 1, 2)
    owner = owner_of(rows, run_id)
    newest, oldest = waiting_reviews(owner)
    with transaction() as session:
        reviews.approve(session, owner, oldest.id, "", None, True)
    assert statuses(run_id) == {"0/1": "COMPLETED", "1/1": "QUEUED", "1/2": "QUEUED", "1/3": "QUEUED"}
    execute(run_id, 1, 3)
    assert statuses(run_id)["1/3"] == "QUEUED", "approved before it was asked"
    execute(run_id, 1, 3)
    assert statuses(run_id)["1/3"] == "COMPLETED"
    assert newest.id != oldest.id


def test_a_stop_ends_what_waits_and_its_reviews(probe: Probe, chain: Chain, statuses: Statuses, rows: Rows) -> None:
    from agentflow.services.cancellation import cancel

    run_id = chain(probe(sleeper(Review("x", state=1))))
    execute(run_id, 0, 1)
    owner = owner_of(rows, run_id)
    (review,) = waiting_reviews(owner)
    with transaction() as session:
        cancel(session, owner, run_id, "enough")
    assert statuses(run_id) == {"0/1": "CANCELLED"}
    assert waiting_reviews(owner) == []
    with pytest.raises(Conflict, match="CANCELLED already"), transaction() as session:
        reviews.approve(session, owner, review.id, "", None, False)
    assert finalise(run_id)
    assert run_status(rows, run_id) == "CANCELLED enough"
    carry_out(steering.retry(owner, run_id))
    assert statuses(run_id) == {"0/1": "WAITING"}
    assert [one.id for one in waiting_reviews(owner)] == [review.id], "a retry asks again"
    with transaction() as session:
        reviews.approve(session, owner, review.id, "", None, False)
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "COMPLETED"}
    assert finalise(run_id)
    assert run_status(rows, run_id) == "COMPLETED"


# ── Child runs ───────────────────────────────────────────────────────────────────────────────────────────────────────


def caller(wait: ChildRun | NodeCall, seen: list[Any]) -> Callable[[Any, Context], Yields]:
    """A block that waits for a child run to its end, and records what it is told."""

    def run(inputs: Any, context: Context) -> Yields:
        if context.resumed is None:
            yield wait
            return
        value = context.resumed.value
        seen.append(value)
        for name, output in value["outputs"] if isinstance(wait, ChildRun) else []:
            yield "value", [name, output]
        if value["status"] == "RUNNING":
            yield ChildRun(wait.graph_id, cursor=value["cursor"])
        else:
            yield "number", len(seen)

    return run


def child_of(rows: Rows, run_id: UUID) -> UUID:
    (found,) = rows("SELECT id FROM runs WHERE parent_run_id = :run", run=run_id)
    return UUID(str(found))


@pytest.fixture
def stored(environment: Settings, rows: Rows) -> Callable[..., str]:
    """`stored(document)` stores a graph for the owner of the first run; gives its id."""

    def store(document: dict[str, Any]) -> str:
        (owner,) = rows("SELECT id FROM users LIMIT 1")
        with transaction() as session:
            return str(graphs.create(session, UUID(str(owner)), document).id)

    return store


def echo_graph(values: int = 1) -> dict[str, Any]:
    """A graph whose output nodes `out0`, `out1`, … give its input."""
    from agentflow.blocks import registry

    nodes = [{"id": "in", "block_id": registry.by_name("AgentInput").id, "input_default": {"name": "text"}}]
    links = []
    for number in range(values):
        nodes.append(
            {
                "id": f"out{number}",
                "block_id": registry.by_name("AgentOutput").id,
                "input_default": {"name": f"out{number}"},
            }
        )
        links.append({"source_id": "in", "source_name": "result", "sink_id": f"out{number}", "sink_name": "value"})
    return {"name": "echo", "nodes": nodes, "links": links}


def test_outputs_of_a_child_reach_its_parent_as_they_happen(
    probe: Probe, chain: Chain, statuses: Statuses, outputs: Outputs, rows: Rows, stored: Callable[..., str]
) -> None:
    chain(probe(sleeper()))  # makes the owner
    graph_id = stored(echo_graph(2))
    seen: list[Any] = []
    run_id = chain(probe(caller(ChildRun(graph_id, inputs={"text": "hi"}), seen)))
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "WAITING"}
    child = child_of(rows, run_id)
    execute(child, 0, 1)
    execute(child, 1, 1)
    assert statuses(run_id) == {"0/1": "QUEUED"}, "the first output woke it"
    execute(run_id, 0, 1)
    assert outputs(run_id) == [("value", ["out0", "hi"])]
    assert statuses(run_id) == {"0/1": "WAITING"}
    execute(child, 2, 1)
    assert finalise(child)
    execute(run_id, 0, 1)
    assert outputs(run_id) == [("value", ["out0", "hi"]), ("value", ["out1", "hi"]), ("number", 2)]
    assert [value["status"] for value in seen] == ["RUNNING", "COMPLETED"]
    assert finalise(run_id)
    (stats,) = rows("SELECT stats FROM runs WHERE id = :run", run=run_id)
    assert stats["node_count"] == 4, "its own and its child's"
    assert stats["child_runs"] == 1


def test_a_child_that_does_something_while_its_parent_is_awake_is_not_slept_over(
    probe: Probe, chain: Chain, statuses: Statuses, rows: Rows, stored: Callable[..., str]
) -> None:
    chain(probe(sleeper()))
    graph_id = stored(echo_graph())
    seen: list[Any] = []

    def run(inputs: Any, context: Context) -> Yields:
        if context.resumed is None:
            yield ChildRun(graph_id, inputs={"text": "hi"})
            return
        seen.append(context.resumed.value)
        if len(seen) == 1:
            child = child_of(rows, context.run_id)
            assert finalise(child), "it ends while its parent looks elsewhere"
            yield ChildRun(graph_id, cursor=context.resumed.value["cursor"])

    run_id = chain(probe(run))
    execute(run_id, 0, 1)
    child = child_of(rows, run_id)
    execute(child, 0, 1)
    execute(child, 1, 1)
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "QUEUED"}
    execute(run_id, 0, 1)
    assert [value["status"] for value in seen] == ["RUNNING", "COMPLETED"]


def test_a_failure_of_a_child_and_a_child_that_is_started_twice(
    probe: Probe, chain: Chain, rows: Rows, stored: Callable[..., str]
) -> None:
    def fails(inputs: Any, context: Context) -> Yields:
        raise ValueError("broken")
        yield

    chain(probe(sleeper()))
    graph_id = stored({"name": "broken", "nodes": [{"id": "x", "block_id": probe(fails)}], "links": []})
    seen: list[Any] = []
    run_id = chain(probe(caller(ChildRun(graph_id), seen)))
    rows("UPDATE node_executions SET waited = 0 RETURNING 1")
    execute(run_id, 0, 1)
    child = child_of(rows, run_id)
    execute(child, 0, 1)
    assert finalise(child)
    execute(run_id, 0, 1)
    assert (seen[0]["status"], "broken" in seen[0]["error"]) == ("FAILED", True)


def test_children_are_cancelled_with_their_parent_and_hold_it_open_until_they_ended(
    probe: Probe, chain: Chain, rows: Rows, stored: Callable[..., str]
) -> None:
    from agentflow.services.cancellation import cancel

    chain(probe(sleeper()))
    graph_id = stored({"name": "long", "nodes": [{"id": "x", "block_id": probe(sleeper(Timer(99)))}], "links": []})
    run_id = chain(probe(caller(ChildRun(graph_id), [])))
    execute(run_id, 0, 1)
    child = child_of(rows, run_id)
    execute(child, 0, 1)
    assert not finalise(run_id)
    assert run_status(rows, run_id) == "WAITING"
    with transaction() as session:
        cancel(session, owner_of(rows, run_id), run_id, "enough")
    assert not finalise(run_id), "its child has not ended"
    assert run_status(rows, run_id) == "RUNNING", "it waits for nothing from outside any more"
    assert finalise(child)
    assert finalise(run_id)
    assert run_status(rows, child) == "CANCELLED the run that it belongs to was stopped"
    assert run_status(rows, run_id) == "CANCELLED enough"


def test_a_graph_that_runs_itself_ends_at_the_limit(
    probe: Probe, chain: Chain, rows: Rows, monkeypatch: pytest.MonkeyPatch, stored: Callable[..., str]
) -> None:
    monkeypatch.setattr(settings(), "max_depth", 2)
    known: dict[str, str] = {}

    def itself(inputs: Any, context: Context) -> Yields:
        if context.resumed is None:
            yield ChildRun(known["graph"])
        else:
            raise ValueError(context.resumed.value["error"])

    chain(probe(sleeper()))
    block = probe(itself)
    known["graph"] = stored({"name": "self", "nodes": [{"id": "x", "block_id": block}], "links": []})
    run_id = chain(block)
    for _ in range(3):
        for (one,) in [(row,) for row in rows("SELECT run_id FROM node_executions WHERE status = 'QUEUED'")]:
            execute(UUID(str(one)), 0, 1)
    depths = rows(
        "SELECT depth, e.status FROM runs JOIN node_executions e ON e.run_id = id WHERE root_id = :r ORDER BY 1",
        r=run_id,
    )
    assert depths == [(0, "WAITING"), (1, "WAITING"), (2, "FAILED")]
    assert rows("SELECT error FROM node_executions WHERE error IS NOT NULL")[0].startswith("runs are nested deeper")


def test_a_node_is_called_by_itself(probe: Probe, submit: Callable[..., UUID], rows: Rows, statuses: Statuses) -> None:
    seen: list[Any] = []

    def tool(inputs: Any, context: Context) -> Yields:
        yield "value", ["called with", inputs.value]
        context.report(cost=3)

    call = NodeCall("n1", {"value": "hello"}, key="call 1")
    nodes = [
        {"id": "n0", "block_id": probe(caller(call, seen)), "input_default": {}},
        {"id": "n1", "block_id": probe(tool), "input_default": {}},
    ]
    links = [{"source_id": "n0", "source_name": "value", "sink_id": "n1", "sink_name": "value"}]
    run_id = submit({"name": "call", "nodes": nodes, "links": links})
    execute(run_id, 0, 1)
    child = child_of(rows, run_id)
    execute(child, 0, 1)
    assert statuses(run_id) == {"0/1": "WAITING"}
    assert finalise(child)
    execute(run_id, 0, 1)
    assert seen == [{"outputs": {"value": [["called with", "hello"]]}, "status": "COMPLETED", "error": None}]
    assert finalise(run_id)
    (stats,) = rows("SELECT stats FROM runs WHERE id = :run", run=run_id)
    assert stats["cost"] == 3
    assert json.dumps(stats)


def test_a_call_that_cannot_be_made_is_told_as_one_that_failed(
    probe: Probe, submit: Callable[..., UUID], rows: Rows, statuses: Statuses
) -> None:
    from agentflow.blocks import registry

    seen: list[Any] = []
    nodes = [
        {"id": "n0", "block_id": probe(caller(NodeCall("n1", {"a": "many"}), seen)), "input_default": {}},
        {"id": "n1", "block_id": registry.by_name("Calculator").id, "input_default": {"operation": "Add", "b": 1}},
    ]
    links = [{"source_id": "n0", "source_name": "value", "sink_id": "n1", "sink_name": "a"}]
    run_id = submit({"name": "call", "nodes": nodes, "links": links})
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "QUEUED"}, "it is told at once"
    execute(run_id, 0, 1)
    assert (seen[0]["status"], "a text is given" in seen[0]["error"]) == ("FAILED", True)
    assert rows("SELECT count(*) FROM runs WHERE parent_run_id IS NOT NULL") == [0]


def test_what_was_forgiven_on_import_does_not_keep_a_node_from_being_called(
    probe: Probe, submit: Callable[..., UUID], rows: Rows
) -> None:
    from agentflow.blocks import registry

    seen: list[Any] = []
    literals = {"operation": "Add", "a": "many"}
    nodes = [
        {"id": "n0", "block_id": probe(caller(NodeCall("n1", {"b": 2}), seen)), "input_default": {}},
        {"id": "n1", "block_id": registry.by_name("Calculator").id, "input_default": literals},
    ]
    links = [{"source_id": "n0", "source_name": "value", "sink_id": "n1", "sink_name": "b"}]
    run_id = submit({"name": "call", "nodes": nodes, "links": links, "user_id": ""})
    execute(run_id, 0, 1)
    child = child_of(rows, run_id)
    execute(child, 0, 1)
    assert finalise(child)
    execute(run_id, 0, 1)
    assert seen == [{"outputs": {"result": [2.0]}, "status": "COMPLETED", "error": None}]


def test_what_it_waits_for_can_be_read(probe: Probe, chain: Chain, rows: Rows, api: Any) -> None:
    run_id = chain(probe(sleeper(Event("go", timeout=3600))))
    execute(run_id, 0, 1)
    (shown,) = api.get(f"/api/v1/runs/{run_id}/nodes").json["items"]
    assert (shown["status"], shown["wait"]["kind"], shown["wait"]["key"]) == ("WAITING", "event", "go")
    assert shown["wait"]["until"] > shown["wait"]["since"]
    rows("UPDATE runs SET paused_at = now() RETURNING 1")
    other = chain(probe(sleeper()))
    rows("UPDATE runs SET paused_at = now() RETURNING 1")
    execute(other, 0, 1)
    (shown,) = api.get(f"/api/v1/runs/{other}/nodes").json["items"]
    assert (shown["status"], shown["hold"], shown["wait"]) == ("QUEUED", "paused", None)


def test_what_a_block_reports_is_shown_and_adds_up_over_attempts(
    probe: Probe, chain: Chain, api: Any, rows: Rows
) -> None:
    def reports(inputs: Any, context: Context) -> Yields:
        context.report(input_tokens=10, llm_calls=1)
        if context.attempt == 1:
            raise Transient("again")
        yield "value", 1

    run_id = chain(probe(reports, cost=2), settings={"retry": {"max_failures": 1, "base": 0}})
    execute(run_id, 0, 1)
    execute(run_id, 0, 1)
    (shown,) = api.get(f"/api/v1/runs/{run_id}/nodes").json["items"]
    assert (shown["stats"]["input_tokens"], shown["stats"]["llm_calls"], shown["stats"]["cost"]) == (20, 2, 2)
    assert finalise(run_id)
    assert api.get(f"/api/v1/runs/{run_id}").json["stats"]["input_tokens"] == 20


@pytest.mark.parametrize("name", sorted(OWN_COUNTS))
def test_a_block_cannot_report_what_the_engine_counts(
    probe: Probe, chain: Chain, statuses: Statuses, rows: Rows, name: str
) -> None:
    def reports(inputs: Any, context: Context) -> Yields:
        context.report(**{name: 7})
        yield "value", 1

    run_id = chain(probe(reports))
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "FAILED block"}
    assert finalise(run_id)
    ((stats, error),) = rows("SELECT stats, error FROM runs WHERE id = :run", run=run_id)
    assert "which the engine counts itself" in error
    assert (stats["node_count"], stats["node_error_count"], stats["leftover_count"]) == (1, 1, 0)


def test_all_that_the_engine_counts_is_kept_from_blocks(probe: Probe, chain: Chain, api: Any, rows: Rows) -> None:
    def sleeps(inputs: Any, context: Context) -> Yields:
        if context.resumed is None:
            yield Timer(60)
        context.report(tokens=1)

    run_id = chain(probe(sleeps))
    execute(run_id, 0, 1)
    hurry(rows)
    assert due(run_id)
    execute(run_id, 0, 1)
    assert finalise(run_id)
    (shown,) = api.get(f"/api/v1/runs/{run_id}/nodes").json["items"]
    counted = shown["stats"].keys() | api.get(f"/api/v1/runs/{run_id}").json["stats"].keys()
    assert counted - OWN_COUNTS == {"tokens", "cost"}


def test_attempts_count_tries_and_not_waits(probe: Probe, chain: Chain, api: Any, rows: Rows) -> None:
    """A failure, a lost lease and a retry by hand begin new attempts; to go on after a wait begins none."""
    attempts: list[int] = []

    def run(inputs: Any, context: Context) -> Yields:
        attempts.append(context.attempt)
        done = context.resumed.state if context.resumed else 0
        if done == 1 and len(attempts) == 2:
            raise Transient("again")
        if done < 3:
            yield Timer(60, state=done + 1)

    run_id = chain(probe(run), settings={"retry": {"max_failures": 1, "base": 0}})
    shown = lambda: api.get(f"/api/v1/runs/{run_id}/nodes").json["items"][0]  # noqa: E731
    execute(run_id, 0, 1)
    assert (shown()["status"], shown()["attempt"]) == ("WAITING", 1)
    hurry(rows)
    assert due(run_id)
    execute(run_id, 0, 1)  # goes on, and fails
    execute(run_id, 0, 1)  # tries again, and waits
    assert (shown()["status"], shown()["attempt"], attempts) == ("WAITING", 2, [1, 1, 2])
    hurry(rows)
    assert due(run_id)
    lease = Lease(new_token(), "somebody", 15.0)
    assert claimed(run_id, lease).attempt == 2
    heir = Lease(new_token(), "test", 60)
    process().hot.return_lease(ExecutionKey(run_id, 0, 1), lease.token, heir, expired=False, bearable=3)
    execute(run_id, 0, 1)
    assert (shown()["status"], shown()["attempt"], attempts) == ("WAITING", 3, [1, 1, 2, 3])
    assert finalise(run_id) is False
    api.post(f"/api/v1/runs/{run_id}/cancel")
    assert shown()["attempt"] == 3


def test_the_time_that_was_waited_is_told_apart_from_the_time_worked(
    probe: Probe, chain: Chain, api: Any, rows: Rows
) -> None:
    run_id = chain(probe(sleeper(Timer(3600, state=1), Timer(7200, state=2))))
    execute(run_id, 0, 1)
    for hours in (1, 2):
        rows(f"UPDATE waits SET since = since - interval '{hours} hours' RETURNING 1")
        rows(f"UPDATE node_executions SET started_at = started_at - interval '{hours} hours' RETURNING 1")
        hurry(rows)
        assert due(run_id)
        execute(run_id, 0, 1)
    (shown,) = api.get(f"/api/v1/runs/{run_id}/nodes").json["items"]
    assert 3 * 3600 <= shown["stats"]["waited"] < 3 * 3600 + 60
    assert 0 <= shown["stats"]["duration"] < 60
