"""What a crash, a lost message or a dead host leaves behind is found and mended, and nothing else is touched."""

import logging
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
import redis
import steps
from probes import Chain, Probe, Rows, Statuses, owner_of
from steps import claim, execute

from agentflow.blocks.base import Context
from agentflow.dispatch.lanes import LANES, queue_name
from agentflow.dispatch.publish import publisher
from agentflow.engine.execution import ExecutionKey, Lease
from agentflow.engine.routing import Batch
from agentflow.engine.settlement import Transition, settlement
from agentflow.services import cancellation, plans
from agentflow.services.transaction import transaction
from agentflow.settings import Settings
from agentflow.storage.hot.node_executions import Held
from agentflow.worker import recovery as module
from agentflow.worker import upkeep as upkeep_module
from agentflow.worker.finalise import finalise
from agentflow.worker.process import Process, holder, process
from agentflow.worker.recovery import Recovery
from agentflow.worker.upkeep import Upkeep

DEAD = 4_194_305  # no process has this id
LEASE = 15.0


class Clock:
    """The clocks of this process and of its database connections, moved by hand."""

    def __init__(self, recovery_process: Process) -> None:
        self._process = recovery_process
        self._ahead = 0.0
        self._real = module.monotonic

    def monotonic(self) -> float:
        return self._real() + self._ahead

    def forward(self, seconds: float) -> None:
        self._ahead += seconds
        self._process.hot.stop_flag(UUID(int=0))  # opens the connection
        self._process.hot._connection.execute(f"SET agentflow.clock_offset = '{self._ahead} seconds'")


@pytest.fixture
def recovering(environment: Settings) -> Iterator[Process]:
    """The state of the recovering worker's main process."""
    made = Process()
    yield made
    made.hot.close()


@pytest.fixture
def clock(recovering: Process, monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock(recovering)
    for one in (module, upkeep_module):
        monkeypatch.setattr(one, "monotonic", made.monotonic)
    return made


@pytest.fixture
def upkeep(recovering: Process, clock: Clock) -> Upkeep:
    return Upkeep(recovering)


@pytest.fixture
def recovery(upkeep: Upkeep) -> Recovery:
    return upkeep.recovery


@pytest.fixture
def broker(broker_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(broker_url) as client:
        yield client


@pytest.fixture
def messages(broker: Any) -> Callable[[], int]:
    """Takes all messages from the broker; how many there were."""

    def take() -> int:
        count = 0
        for lane in LANES:
            for key in broker.scan_iter(f"{queue_name(lane)}*"):
                count += broker.llen(key)
                broker.delete(key)
        return count

    return take


def takes(inputs: Any, context: Context) -> Any:
    yield "value", context.attempt


@pytest.fixture
def run(probe: Probe, chain: Chain, messages: Callable[[], int]) -> Callable[..., UUID]:
    """Starts a run of one node, whose error goes to another; its message is taken from the broker."""

    def start(**settings: Any) -> UUID:
        run_id = chain(probe(takes), probe(takes), pin="error", settings=settings)
        messages()
        return run_id

    return start


def hold(run_id: UUID, pid: int = DEAD) -> UUID:
    """A child of this worker claims 0/1, and dies."""
    return steps.hold(run_id, holder(pid), lease=LEASE).token


def test_a_lease_whose_process_died_is_taken_back_at_once(
    recovery: Recovery, run: Callable[..., UUID], statuses: Statuses, rows: Rows, messages: Callable[[], int]
) -> None:
    run_id = run()
    hold(run_id)
    recovery.return_lease(ExecutionKey(run_id, 0, 1), holder(DEAD), timed_out=False)
    assert statuses(run_id) == {"0/1": "QUEUED"}
    assert rows("SELECT losses, failures, token FROM node_executions WHERE node = 0") == [(1, 0, None)]
    assert messages() == 1
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "COMPLETED"}


def test_a_lease_of_another_process_stays(
    recovery: Recovery, run: Callable[..., UUID], statuses: Statuses, messages: Callable[[], int]
) -> None:
    run_id = run()
    hold(run_id)
    recovery.return_lease(ExecutionKey(run_id, 0, 1), holder(DEAD + 1), timed_out=False)
    recovery.return_lease(ExecutionKey(run_id, 0, 2), holder(DEAD), timed_out=False)
    recovery.return_lease(ExecutionKey(run_id, 1, 1), holder(DEAD), timed_out=False)
    assert statuses(run_id) == {"0/1": "RUNNING"}
    assert messages() == 0


def test_what_was_settled_before_its_process_died_stays(
    recovery: Recovery, run: Callable[..., UUID], statuses: Statuses, messages: Callable[[], int]
) -> None:
    run_id = run()
    execute(run_id, 0, 1)
    messages()
    recovery.return_lease(ExecutionKey(run_id, 0, 1), holder(), timed_out=False)
    assert statuses(run_id) == {"0/1": "COMPLETED"}
    assert messages() == 0


def test_what_its_run_stopped_is_closed_as_soon_as_its_lease_is_back(
    recovery: Recovery, run: Callable[..., UUID], statuses: Statuses, rows: Rows, messages: Callable[[], int]
) -> None:
    """All other processes may be busy for long."""
    run_id = run()
    hold(run_id)
    with transaction() as session:
        cancellation.cancel(session, owner_of(rows, run_id), run_id, "enough")
    recovery.return_lease(ExecutionKey(run_id, 0, 1), holder(DEAD), timed_out=False)
    assert statuses(run_id) == {"0/1": "CANCELLED"}
    assert messages() == 1, "the finaliser's"
    assert finalise(run_id)
    assert rows("SELECT status FROM runs") == ["CANCELLED"]


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_a_process_that_was_killed_for_its_timeout_is_a_transient_failure(
    recovery: Recovery,
    run: Callable[..., UUID],
    statuses: Statuses,
    outputs: Callable[..., Any],
    rows: Rows,
    retries: int,
) -> None:
    run_id = run(retry={"max_failures": retries, "base": 0, "jitter": False}, max_losses=0)
    for failures in range(1, retries + 1):
        hold(run_id)
        recovery.return_lease(ExecutionKey(run_id, 0, 1), holder(DEAD), timed_out=True)
        assert statuses(run_id) == {"0/1": "QUEUED timeout"}
        counts = rows("SELECT failures, losses, due_at IS NOT NULL FROM node_executions WHERE node = 0")
        assert counts == [(failures, 0, True)]
    assert outputs(run_id) == []
    hold(run_id)
    recovery.return_lease(ExecutionKey(run_id, 0, 1), holder(DEAD), timed_out=True)
    assert statuses(run_id) == {"0/1": "FAILED timeout", "1/1": "QUEUED"}
    (error,) = rows("SELECT error FROM node_executions WHERE node = 0")
    assert "longer than its timeout" in error
    assert outputs(run_id) == [("error", error)]


def test_a_timeout_is_not_retried_where_retries_name_other_kinds(
    recovery: Recovery, run: Callable[..., UUID], statuses: Statuses
) -> None:
    run_id = run(retry={"max_failures": 5, "on": ["block"]})
    hold(run_id)
    recovery.return_lease(ExecutionKey(run_id, 0, 1), holder(DEAD), timed_out=True)
    assert statuses(run_id) == {"0/1": "FAILED timeout", "1/1": "QUEUED"}


@pytest.mark.parametrize(
    ("settings", "losses"), [({"max_losses": 2}, 2), ({"max_losses": 0}, 0), ({"on_worker_lost": "fail"}, 0), ({}, 3)]
)
def test_a_node_execution_that_loses_its_worker_too_often_fails(
    recovery: Recovery,
    run: Callable[..., UUID],
    statuses: Statuses,
    outputs: Callable[..., Any],
    settings: dict[str, Any],
    losses: int,
) -> None:
    run_id = run(**settings)
    for _ in range(losses):
        hold(run_id)
        recovery.return_lease(ExecutionKey(run_id, 0, 1), holder(DEAD), timed_out=False)
        assert statuses(run_id) == {"0/1": "QUEUED"}
    hold(run_id)
    recovery.return_lease(ExecutionKey(run_id, 0, 1), holder(DEAD), timed_out=False)
    assert statuses(run_id) == {"0/1": "FAILED worker_lost", "1/1": "QUEUED"}
    assert outputs(run_id) == [("error", "its worker process died")]


def test_a_node_that_was_lost_for_good_ends_its_run(
    recovery: Recovery, probe: Probe, chain: Chain, statuses: Statuses, rows: Rows, messages: Callable[[], int]
) -> None:
    run_id = chain(probe(takes), settings={"on_worker_lost": "fail"})
    messages()
    hold(run_id)
    recovery.return_lease(ExecutionKey(run_id, 0, 1), holder(DEAD), timed_out=False)
    assert messages() == 1, "the finaliser's"
    assert finalise(run_id)
    assert rows("SELECT status, reason, error FROM runs") == [
        ("FAILED", "worker_lost", "Probe0 (n0): its worker process died")
    ]
    assert not finalise(run_id), "a run ends once"


def test_an_expired_lease_is_taken_back(
    upkeep: Upkeep, clock: Clock, run: Callable[..., UUID], statuses: Statuses, messages: Callable[[], int]
) -> None:
    run_id = run()
    hold(run_id)
    clock.forward(LEASE - 1)
    upkeep.run_pass()
    assert statuses(run_id) == {"0/1": "RUNNING"}
    clock.forward(2)
    upkeep.run_pass()
    assert statuses(run_id) == {"0/1": "QUEUED"}
    assert messages() == 1


def test_after_an_outage_a_whole_lease_passes_before_one_counts_as_lost(
    upkeep: Upkeep, clock: Clock, run: Callable[..., UUID], statuses: Statuses
) -> None:
    run_id = run()
    hold(run_id)
    clock.forward(10 * LEASE)
    upkeep.recovery.was_interrupted()
    upkeep.run_pass()
    assert statuses(run_id) == {"0/1": "RUNNING"}, "its worker could not renew it"
    clock.forward(LEASE - 1)
    upkeep.run_pass()
    assert statuses(run_id) == {"0/1": "RUNNING"}
    clock.forward(2)
    upkeep.run_pass()
    assert statuses(run_id) == {"0/1": "QUEUED"}


def test_a_lease_that_was_renewed_is_not_lost(
    upkeep: Upkeep, recovering: Process, clock: Clock, run: Callable[..., UUID], statuses: Statuses
) -> None:
    run_id = run()
    hold(run_id)
    key = ExecutionKey(run_id, 0, 1)
    for _ in range(3):
        clock.forward(LEASE - 1)
        assert recovering.hot.renew([Held(holder(DEAD), key)], LEASE) == [(key, False)]
        upkeep.run_pass()
    assert statuses(run_id) == {"0/1": "RUNNING"}


def test_a_message_that_was_lost_is_published_again_and_more_and_more_seldom(
    upkeep: Upkeep, clock: Clock, run: Callable[..., UUID], messages: Callable[[], int]
) -> None:
    run()
    upkeep.run_pass()
    assert messages() == 0, "it has only just been published"
    for seconds in (6, 6, 11):
        clock.forward(seconds)
        upkeep.run_pass()
        assert messages() == 1
        upkeep.run_pass()
        assert messages() == 0


def test_what_waits_at_the_broker_is_not_published_twice(
    upkeep: Upkeep, clock: Clock, probe: Probe, chain: Chain, messages: Callable[[], int]
) -> None:
    chain(probe(takes))
    clock.forward(6)
    upkeep.run_pass()
    assert messages() == 1
    clock.forward(6)
    upkeep.run_pass()
    assert messages() == 1, "the queue is empty now, and it is not claimed"


def test_nobody_rings_at_a_broker_that_is_away(
    upkeep: Upkeep, clock: Clock, run: Callable[..., UUID], rows: Rows, messages: Callable[[], int]
) -> None:
    run()
    publisher()._away_until = float("inf")
    for _ in range(20):
        clock.forward(60)
        upkeep.run_pass()
    assert rows("SELECT republished FROM node_executions") == [0]
    publisher()._away_until = 0.0
    clock.forward(3)
    upkeep.run_pass()
    assert messages() == 1, "and as soon as it is back, they do"


def test_a_retry_is_published_when_it_is_due(
    upkeep: Upkeep, clock: Clock, probe: Probe, chain: Chain, messages: Callable[[], int]
) -> None:
    def fails(inputs: Any, context: Context) -> Any:
        raise RuntimeError("once")
        yield

    run_id = chain(probe(fails), settings={"retry": {"max_failures": 1, "base": 30, "jitter": False, "on": ["block"]}})
    execute(run_id, 0, 1)
    messages()
    clock.forward(29)
    upkeep.run_pass()
    assert messages() == 0
    clock.forward(2)
    upkeep.run_pass()
    assert messages() == 1


def test_a_run_that_nobody_ended_is_ended(
    upkeep: Upkeep, clock: Clock, run: Callable[..., UUID], rows: Rows, messages: Callable[[], int]
) -> None:
    run_id = run()
    execute(run_id, 0, 1)
    messages()  # the finaliser's message is lost
    clock.forward(3)
    upkeep.run_pass()
    if messages():
        finalise(run_id)
    assert rows("SELECT status FROM runs") == ["COMPLETED"]


def test_a_run_that_passes_its_deadline_is_stopped(
    upkeep: Upkeep, clock: Clock, run: Callable[..., UUID], rows: Rows, statuses: Statuses
) -> None:
    run_id = run()
    rows("UPDATE runs SET deadline_at = agentflow_now() + interval '10 seconds' RETURNING 1")
    upkeep.run_pass()
    assert statuses(run_id) == {"0/1": "QUEUED"}
    clock.forward(11)
    upkeep.run_pass()
    assert statuses(run_id) == {"0/1": "CANCELLED"}
    assert rows("SELECT stop_as, stop_reason FROM runs") == [("FAILED", "timeout")]


def test_a_run_whose_failure_stops_it_is_stopped_though_its_worker_died_over_that(
    upkeep: Upkeep, submit: Callable[..., UUID], probe: Probe, statuses: Statuses, rows: Rows
) -> None:
    nodes = [{"id": id, "block_id": probe(takes)} for id in ("a", "b")]
    run_id = submit({"name": "g", "nodes": nodes, "links": [], "settings": {"on_node_failure": "stop"}})
    token = hold(run_id)
    plan = process().run(run_id).plan  # type: ignore[union-attr]
    key, lease = ExecutionKey(run_id, 0, 1), Lease(token, "test", LEASE)
    made = settlement(plan, key, lease, Batch(first=0), Transition.failed("block", "it failed"))
    process().hot.settle(made)  # and there the worker dies
    assert statuses(run_id) == {"0/1": "FAILED block", "1/1": "QUEUED"}
    upkeep.run_pass()
    assert statuses(run_id) == {"0/1": "FAILED block", "1/1": "CANCELLED"}
    finalise(run_id)
    assert rows("SELECT status, reason FROM runs") == [("FAILED", "node_failed")]


def test_one_worker_recovers_at_a_time(
    upkeep: Upkeep, recovering: Process, clock: Clock, run: Callable[..., UUID], statuses: Statuses
) -> None:
    run_id = run()
    hold(run_id)
    clock.forward(2 * LEASE)
    assert process().hot.try_lock(upkeep_module._LOCK, 60)
    upkeep.run_pass()
    assert statuses(run_id) == {"0/1": "RUNNING"}
    process().hot.unlock(upkeep_module._LOCK)
    upkeep.run_pass()
    assert statuses(run_id) == {"0/1": "QUEUED"}


def test_one_run_that_cannot_be_read_does_not_keep_the_others_from_being_mended(
    upkeep: Upkeep,
    clock: Clock,
    run: Callable[..., UUID],
    statuses: Statuses,
    rows: Rows,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = run()
    hold(broken)
    for cache in ("_plans", "_documents"):
        monkeypatch.setattr(plans, cache, plans.VersionCache())
    rows("UPDATE graph_versions SET plan = 'rubbish', document = 'rubbish' RETURNING 1")
    whole = run(max_losses=1)
    hold(whole)
    clock.forward(2 * LEASE)
    with caplog.at_level(logging.ERROR):
        upkeep.run_pass()
    assert statuses(whole) == {"0/1": "QUEUED"}
    assert statuses(broken) == {"0/1": "QUEUED"}, "counted as lost, without its plan"
    assert "engine_failed" in [record.message for record in caplog.records]


def test_outputs_whose_turn_was_missed_go_out(
    upkeep: Upkeep,
    clock: Clock,
    probe: Probe,
    chain: Chain,
    statuses: Statuses,
    rows: Rows,
    messages: Callable[[], int],
) -> None:
    def twice(inputs: Any, context: Context) -> Any:
        yield "value", 1
        yield "value", 2

    run_id = chain(probe(twice), probe(takes), probe(takes))
    execute(run_id, 0, 1)
    first = claim(process(), run_id, 1, 1)
    assert first is not None
    execute(run_id, 1, 2)  # its outputs wait for those of 1/1
    # As if 1/1 had been settled by a process that died before it released what waited behind it.
    rows(
        "UPDATE node_executions SET status = 'COMPLETED', open = false, ended_at = now() WHERE node = 1 AND idx = 1 "
        "RETURNING 1"
    )
    messages()
    clock.forward(60)
    upkeep.run_pass()
    assert statuses(run_id) == {"0/1": "COMPLETED", "1/1": "COMPLETED", "1/2": "COMPLETED", "2/1": "QUEUED"}
    assert messages() >= 1
