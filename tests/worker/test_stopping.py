"""A run is stopped, by its owner, its deadline or a failure: what it reads meanwhile, and which verdict counts."""

import os
import signal
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from probes import Probe, Rows, Statuses, Submit, Yields, passes
from steps import claim, execute, wake_due

from agentflow.blocks.base import Context
from agentflow.engine.waits import Timer
from agentflow.errors import Interrupted
from agentflow.services import steering
from agentflow.services.cancellation import cancel
from agentflow.services.transaction import carry_out, transaction
from agentflow.worker.execute import perform, settle
from agentflow.worker.finalise import finalise
from agentflow.worker.process import process
from agentflow.worker.upkeep import Upkeep

pytestmark = pytest.mark.timeout(60, method="thread")


def fails(inputs: Any, context: Context) -> Yields:
    raise RuntimeError("it broke")
    yield


def sleeps(inputs: Any, context: Context) -> Yields:
    yield Timer(3600)


@pytest.fixture
def apart(probe: Probe, submit: Submit) -> Callable[..., UUID]:
    """`apart(*runs, **settings)` runs nodes that do these things, without links between them."""

    def start(*runs: Callable[..., Any], **settings: Any) -> UUID:
        nodes = [
            {"id": f"n{number}", "block_id": probe(run), "input_default": {"value": 1}}
            for number, run in enumerate(runs)
        ]
        return submit({"name": "apart", "nodes": nodes, "links": [], "settings": settings})

    return start


Apart = Callable[..., UUID]


def cancel_it(rows: Rows, run_id: UUID, reason: str = "enough") -> None:
    (owner,) = rows("SELECT owner_id FROM runs WHERE id = :run", run=run_id)
    with transaction() as session:
        cancel(session, owner, run_id, reason)


def test_a_cancelled_run_reads_running_until_all_of_it_has_closed(
    apart: Apart, statuses: Statuses, rows: Rows, api: Any
) -> None:
    run_id = apart(passes, passes, sleeps)
    execute(run_id, 2, 1)
    attempt = claim(process(), run_id, 0, 1)
    assert attempt is not None
    told = api.post(f"/api/v1/runs/{run_id}/cancel").json
    assert statuses(run_id) == {"0/1": "RUNNING", "1/1": "CANCELLED", "2/1": "CANCELLED"}, "only what runs is open"
    assert not finalise(run_id)
    seen = api.get(f"/api/v1/runs/{run_id}").json
    assert (seen["status"], seen["cancel_requested_at"], seen["ended_at"]) == (
        "RUNNING",
        told["cancel_requested_at"],
        None,
    )
    settle(attempt, perform(attempt))
    assert statuses(run_id)["0/1"] == "CANCELLED"
    assert finalise(run_id)
    seen = api.get(f"/api/v1/runs/{run_id}").json
    assert (seen["status"], seen["ended_at"] is not None) == ("CANCELLED", True)


def come_due(rows: Rows, run_id: UUID) -> None:
    """The run's deadline passes, and somebody looks."""
    rows("UPDATE runs SET deadline_at = agentflow_now() WHERE id = :run RETURNING 1", run=run_id)
    Upkeep(process()).run_pass()


@pytest.mark.parametrize("first", ["owner", "deadline", "failure"])
def test_each_stop_has_its_own_verdict_and_the_first_one_counts(apart: Apart, rows: Rows, first: str) -> None:
    run_id = apart(fails, passes, deadline=3600, on_node_failure="stop")
    failing, other = claim(process(), run_id, 0, 1), claim(process(), run_id, 1, 1)
    assert failing is not None
    assert other is not None
    stops = {
        "owner": lambda: cancel_it(rows, run_id),
        "deadline": lambda: come_due(rows, run_id),
        "failure": lambda: settle(failing, perform(failing)),
    }
    for name in sorted(stops, key=lambda name: name != first):
        stops[name]()
    settle(other, perform(other))
    assert finalise(run_id)
    ended = {"owner": ("CANCELLED", "enough"), "deadline": ("FAILED", "timeout"), "failure": ("FAILED", "node_failed")}
    assert rows("SELECT status, reason FROM runs WHERE id = :run", run=run_id) == [ended[first]]


def test_what_waits_ends_at_once_when_its_run_is_cancelled(apart: Apart, statuses: Statuses, rows: Rows) -> None:
    run_id = apart(sleeps)
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "WAITING"}
    cancel_it(rows, run_id)
    assert statuses(run_id) == {"0/1": "CANCELLED"}


def test_what_has_not_started_ends_at_once_and_a_retry_goes_on_with_what_it_had(
    probe: Probe, submit: Submit, statuses: Statuses, outputs: Callable[..., list[Any]], rows: Rows
) -> None:
    nodes = [
        {"id": "done", "block_id": probe(passes), "input_default": {"value": "kept"}},
        {"id": "queued", "block_id": probe(passes), "input_default": {"value": "late"}},
        {"id": "both", "block_id": probe(passes), "input_default": {}},
    ]
    links = [
        {"source_id": source, "source_name": "value", "sink_id": "both", "sink_name": f"value_#_{source}"}
        for source in ("done", "queued")
    ]
    run_id = submit({"name": "join", "nodes": nodes, "links": links})
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "COMPLETED", "1/1": "QUEUED", "2/1": "INCOMPLETE"}
    cancel_it(rows, run_id)
    assert statuses(run_id) == {"0/1": "COMPLETED", "1/1": "CANCELLED", "2/1": "CANCELLED"}
    assert finalise(run_id)
    (owner,) = rows("SELECT owner_id FROM runs WHERE id = :run", run=run_id)
    carry_out(steering.retry(owner, run_id))
    assert statuses(run_id) == {"0/1": "COMPLETED", "1/1": "QUEUED", "2/1": "INCOMPLETE"}
    execute(run_id, 1, 1)
    execute(run_id, 2, 1)
    assert outputs(run_id, 2) == [("value", {"done": "kept", "queued": "late"})]
    assert rows("SELECT attempt FROM node_executions WHERE run_id = :run ORDER BY node", run=run_id) == [1, 1, 1]


def test_what_is_stopped_while_it_runs_hands_its_slot_on_at_once(
    apart: Apart, statuses: Statuses, rows: Rows, signals: None
) -> None:
    def stopped(inputs: Any, context: Context) -> Yields:
        cancel_it(rows, context.run_id)
        os.kill(os.getpid(), signal.SIGUSR2)
        yield "value", "it must not come here"

    one = {"concurrency": {"key": "api", "limit": 1}}
    first, second = apart(stopped, **one), apart(passes, **one)
    attempt = claim(process(), first, 0, 1)
    assert attempt is not None
    execute(second, 0, 1)
    assert rows("SELECT hold FROM node_executions WHERE run_id = :run", run=second) == ["limit"]
    settle(attempt, perform(attempt))
    assert statuses(first) == {"0/1": "CANCELLED"}
    execute(second, 0, 1)
    assert statuses(second) == {"0/1": "COMPLETED"}


def test_a_block_is_told_through_its_context(apart: Apart, statuses: Statuses, rows: Rows, signals: None) -> None:
    said: list[bool] = []

    def asks(inputs: Any, context: Context) -> Yields:
        said.append(context.cancelled())
        cancel_it(rows, context.run_id)
        try:
            os.kill(os.getpid(), signal.SIGUSR2)  # as the worker's main process does, which has heard of it
            pytest.fail("it must be interrupted")
        except Interrupted:
            said.append(context.cancelled())
            context.stop_if_cancelled()
        yield "value", "it must not come here"

    run_id = apart(asks)
    execute(run_id, 0, 1)
    assert said == [False, True]
    assert statuses(run_id) == {"0/1": "CANCELLED"}


@pytest.mark.parametrize("what", [passes, fails, sleeps])
def test_whatever_an_attempt_comes_to_after_the_stop_only_cancelled_is_stored(
    apart: Apart, statuses: Statuses, rows: Rows, what: Callable[..., Any]
) -> None:
    run_id = apart(what, retry={"max_failures": 5, "on": ["block"]})
    attempt = claim(process(), run_id, 0, 1)
    assert attempt is not None
    cancel_it(rows, run_id)
    settle(attempt, perform(attempt))
    assert statuses(run_id) == {"0/1": "CANCELLED"}
    assert rows("SELECT count(*) FROM outputs WHERE run_id = :run", run=run_id) == [0]
    assert rows("SELECT count(*) FROM waits WHERE run_id = :run", run=run_id) == [0]


def test_what_comes_back_after_the_stop_is_closed_with_an_event(apart: Apart, statuses: Statuses, rows: Rows) -> None:
    run_id = apart(passes)
    attempt = claim(process(), run_id, 0, 1)
    assert attempt is not None
    cancel_it(rows, run_id)
    attempt.return_lease()
    assert statuses(run_id) == {"0/1": "CANCELLED"}, "at once: every worker may be busy"
    last = "SELECT kind, status, attempt FROM events WHERE run_id = :run AND node = 0 ORDER BY id DESC LIMIT 1"
    assert rows(last, run=run_id) == [("settled", "CANCELLED", 1)]


def test_every_move_that_an_attempt_makes_is_an_event_with_its_time_and_reason(
    apart: Apart, rows: Rows, api: Any
) -> None:
    """A retry, a worker that was stopped, a wait and the end."""

    def eventful(inputs: Any, context: Context) -> Yields:
        if context.attempt == 1:
            raise RuntimeError("first")
        if context.resumed is None:
            yield Timer(3600, state=1)
        else:
            yield "value", 1

    run_id = apart(eventful, retry={"max_failures": 1, "base": 0, "on": ["block"]})
    execute(run_id, 0, 1)
    attempt = claim(process(), run_id, 0, 1)
    assert attempt is not None
    attempt.return_lease()
    execute(run_id, 0, 1)
    rows("UPDATE waits SET until = agentflow_now() WHERE run_id = :run RETURNING 1", run=run_id)
    assert wake_due(run_id, 0, 1)
    execute(run_id, 0, 1)
    assert finalise(run_id)
    story = rows(
        "SELECT kind, status, reason, attempt FROM events WHERE run_id = :run AND node = 0 ORDER BY id", run=run_id
    )
    assert story == [
        ("claimed", "RUNNING", None, 1),
        ("settled", "QUEUED", "block", 1),
        ("claimed", "RUNNING", None, 2),
        ("lost", "QUEUED", "worker_stopped", 2),
        ("claimed", "RUNNING", None, 3),
        ("settled", "WAITING", None, 3),
        ("woken", "QUEUED", None, 3),
        ("claimed", "RUNNING", None, 3),
        ("settled", "COMPLETED", None, 3),
    ]
    assert rows("SELECT count(*) FROM events WHERE run_id = :run AND at IS NULL", run=run_id) == [0]
