"""Limits over all workers park what is over them; caches and budgets do what a graph's author set."""

import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from probes import Chain, Outputs, Probe, Rows, Statuses, Submit, Yields, owner_of, passes
from steps import claim, execute

from agentflow.blocks.base import Context
from agentflow.engine.waits import Timer
from agentflow.errors import Transient
from agentflow.services import steering
from agentflow.services.cancellation import cancel
from agentflow.services.transaction import carry_out, transaction
from agentflow.settings import settings
from agentflow.storage import steering as stored_steering
from agentflow.worker.execute import perform, settle
from agentflow.worker.finalise import finalise
from agentflow.worker.process import process
from agentflow.worker.upkeep import Upkeep

pytestmark = pytest.mark.timeout(60, method="thread")


def several(count: int) -> Callable[[Any, Context], Yields]:
    def run(inputs: Any, context: Context) -> Yields:
        for number in range(count):
            yield "value", number

    return run


@pytest.fixture
def fan(probe: Probe, submit: Submit) -> Callable[..., UUID]:
    """`fan(count, run, settings)`: node 0 gives `count` values, node 1 runs for each."""

    def start(count: int, run: Callable[..., Any] = passes, own: dict[str, Any] | None = None, **more: Any) -> UUID:
        nodes = [
            {"id": "each", "block_id": probe(several(count)), "input_default": {}},
            {"id": "one", "block_id": probe(run, **more), "input_default": {}, "settings": own or {}},
        ]
        links = [{"source_id": "each", "source_name": "value", "sink_id": "one", "sink_name": "value"}]
        return submit({"name": "fan", "nodes": nodes, "links": links})

    return start


def held(rows: Rows, run_id: UUID) -> list[Any]:
    return list(
        rows(
            "SELECT idx, hold FROM node_executions WHERE run_id = :run AND node = 1 AND hold IS NOT NULL ORDER BY idx",
            run=run_id,
        )
    )


def begin(run_id: UUID, idx: int) -> Any:
    return claim(process(), run_id, 1, idx)


def end(attempt: Any) -> None:
    settle(attempt, perform(attempt))


CONCURRENCY = {"concurrency": {"key": "api", "limit": 2}}


def test_as_many_run_as_the_limit_says_and_who_ends_hands_its_slot_on(
    fan: Callable[..., UUID], statuses: Statuses, rows: Rows
) -> None:
    run_id = fan(5, own=CONCURRENCY)
    execute(run_id, 0, 1)
    first, second = begin(run_id, 1), begin(run_id, 2)
    assert first is not None
    assert second is not None
    assert [begin(run_id, idx) for idx in (3, 4, 3)] == [None] * 3
    assert held(rows, run_id) == [(3, "limit"), (4, "limit")]
    assert not finalise(run_id)
    end(second)
    assert held(rows, run_id) == [(4, "limit")]
    assert begin(run_id, 5) is None, "it may not overtake those that wait"
    third = begin(run_id, 3)
    assert third is not None
    end(first)
    end(third)
    for idx in (4, 5):
        end(begin(run_id, idx))
    assert set(statuses(run_id).values()) == {"COMPLETED"}
    assert rows("SELECT count(*) FROM limit_slots") == [0]
    assert rows("SELECT count(*) FROM limit_queue") == [0]


def test_a_limit_is_one_for_all_runs_of_its_owner(fan: Callable[..., UUID], rows: Rows) -> None:
    one, other = fan(2, own=CONCURRENCY), fan(2, own=CONCURRENCY)
    for run_id in (one, other):
        execute(run_id, 0, 1)
    first, second = begin(one, 1), begin(other, 1)
    assert begin(one, 2) is None
    assert begin(other, 2) is None
    end(second)
    assert held(rows, one) == []
    assert held(rows, other) == [(2, "limit")]
    end(first)
    assert held(rows, other) == []


def test_of_those_that_wait_for_a_slot_the_most_urgent_gets_it(fan: Callable[..., UUID], rows: Rows) -> None:
    own = {"concurrency": {"key": "api", "limit": 1}}
    calm, urgent, usual = fan(2, own=own | {"priority": 1}), fan(1, own=own | {"priority": 9}), fan(1, own=own)
    for run_id in (calm, urgent, usual):
        execute(run_id, 0, 1)
    attempt = begin(calm, 1)
    assert [begin(calm, 2), begin(usual, 1), begin(urgent, 1)] == [None] * 3
    for run_id, idx in ((urgent, 1), (usual, 1), (calm, 2)):
        end(attempt)
        assert held(rows, run_id) == []
        attempt = begin(run_id, idx)
    end(attempt)


def test_a_paused_run_keeps_no_slot_from_the_others(fan: Callable[..., UUID], rows: Rows) -> None:
    one_slot = {"concurrency": {"key": "api", "limit": 1}}
    paused, other = fan(2, own=one_slot), fan(1, own=one_slot)
    for run_id in (paused, other):
        execute(run_id, 0, 1)
    first = begin(paused, 1)
    assert [begin(paused, 2), begin(other, 1)] == [None, None]
    (owner,) = rows("SELECT owner_id FROM runs WHERE id = :run", run=paused)
    carry_out(steering.pause(owner, paused))
    end(first)
    assert held(rows, paused) == [(2, "paused")]
    second = begin(other, 1)
    assert second is not None, "the slot was handed on to the run that goes on"
    end(second)
    carry_out(steering.resume(owner, paused))
    end(begin(paused, 2))
    assert rows("SELECT count(*) FROM limit_slots") == [0]


def test_a_retry_that_waits_keeps_no_slot_from_the_others(fan: Callable[..., UUID], statuses: Statuses) -> None:
    def fails_first(inputs: Any, context: Context) -> Yields:
        if context.index == 1 and context.attempt == 1:
            raise Transient("not now")
        yield "value", inputs.value

    retry = {"max_failures": 1, "base": 60, "jitter": False}
    run_id = fan(2, fails_first, own={"concurrency": {"key": "api", "limit": 1}, "retry": retry})
    execute(run_id, 0, 1)
    first = begin(run_id, 1)
    assert begin(run_id, 2) is None
    end(first)
    assert statuses(run_id)["1/1"] == "QUEUED transient"
    second = begin(run_id, 2)
    assert second is not None
    end(second)


def test_a_slot_that_comes_while_its_run_is_being_resumed_is_taken(fan: Callable[..., UUID], rows: Rows) -> None:
    one_slot = {"concurrency": {"key": "api", "limit": 1}}
    resumed, other = fan(1, own=one_slot), fan(1, own=one_slot)
    for run_id in (resumed, other):
        execute(run_id, 0, 1)
    first = begin(other, 1)
    assert begin(resumed, 1) is None
    carry_out(steering.pause(owner_of(rows, resumed), resumed))
    assert held(rows, resumed) == [(1, "limit")]
    ending = threading.Thread(target=end, args=(first,))
    with transaction() as session:
        stored_steering.resume(session, resumed)
        ending.start()
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        deadline = time.monotonic() + 20
        while rows(waiting) == [0]:
            assert time.monotonic() < deadline, "the slot is handed on by somebody who does not wait for the resume"
            time.sleep(0.01)
    ending.join()
    assert held(rows, resumed) == []
    end(begin(resumed, 1))


def test_a_place_in_a_rate_that_comes_during_a_pause_passes(fan: Callable[..., UUID], rows: Rows) -> None:
    run_id = fan(2, own={"rate_limit": {"key": "api", "per_second": 0.01}})
    execute(run_id, 0, 1)
    end(begin(run_id, 1))
    assert begin(run_id, 2) is None
    assert held(rows, run_id) == [(2, "rate")]
    (owner,) = rows("SELECT owner_id FROM runs WHERE id = :run", run=run_id)
    carry_out(steering.pause(owner, run_id))
    rows("UPDATE node_executions SET due_at = agentflow_now() WHERE node = 1 AND idx = 2 RETURNING 1")
    rows("UPDATE limits SET next_at = agentflow_now() RETURNING 1")
    assert begin(run_id, 2) is None
    assert held(rows, run_id) == [(2, "paused")]
    carry_out(steering.resume(owner, run_id))
    attempt = begin(run_id, 2)
    assert attempt is not None
    end(attempt)


def test_a_slot_is_kept_through_a_lost_lease_and_freed_by_a_wait(
    fan: Callable[..., UUID], statuses: Statuses, rows: Rows
) -> None:
    def waits(inputs: Any, context: Context) -> Yields:
        yield Timer(3600)

    run_id = fan(2, waits, own={"concurrency": {"key": "api", "limit": 1}})
    execute(run_id, 0, 1)
    attempt = begin(run_id, 1)
    attempt.return_lease()
    assert begin(run_id, 2) is None, "the slot is the first one's, which runs again"
    end(begin(run_id, 1))
    assert statuses(run_id)["1/1"] == "WAITING"
    assert held(rows, run_id) == [(1, "waiting")]
    end(begin(run_id, 2))
    assert statuses(run_id)["1/2"] == "WAITING"


def test_what_a_stopped_run_held_is_given_to_others(fan: Callable[..., UUID], rows: Rows) -> None:
    one, other = (
        fan(1, own={"concurrency": {"key": "k", "limit": 1}}),
        fan(1, own={"concurrency": {"key": "k", "limit": 1}}),
    )
    for run_id in (one, other):
        execute(run_id, 0, 1)
    assert begin(one, 1) is not None
    assert begin(other, 1) is None
    rows("UPDATE node_executions SET status = 'QUEUED', token = NULL WHERE node = 1 AND status = 'RUNNING' RETURNING 1")
    (owner,) = rows("SELECT owner_id FROM runs WHERE id = :run", run=one)
    with transaction() as session:
        cancel(session, owner, one, "enough")
    rows("UPDATE limit_slots SET since = since - interval '1 minute' RETURNING 1")
    Upkeep(process()).run_pass()
    assert held(rows, other) == []
    end(begin(other, 1))
    assert rows("SELECT count(*) FROM limit_slots") == [0]


def test_starts_are_spread_over_time_each_at_its_own_place(fan: Callable[..., UUID], rows: Rows) -> None:
    run_id = fan(4, own={"rate_limit": {"key": "api", "per_second": 0.5}})
    execute(run_id, 0, 1)
    assert begin(run_id, 1) is not None
    assert [begin(run_id, idx) for idx in (2, 3, 4, 2)] == [None] * 4
    assert held(rows, run_id) == [(2, "rate"), (3, "rate"), (4, "rate")]
    gaps = rows(
        "SELECT extract(epoch FROM due_at - lag(due_at) OVER (ORDER BY idx)) FROM node_executions "
        "WHERE hold = 'rate' ORDER BY idx"
    )
    assert [round(float(gap), 3) for gap in gaps[1:]] == [2.0, 2.0]
    rows("UPDATE node_executions SET due_at = agentflow_now(), check_at = agentflow_now() WHERE idx = 3 RETURNING 1")
    assert begin(run_id, 3) is not None, "its place has come"
    assert begin(run_id, 4) is None


@pytest.mark.parametrize("leaves", ["cancelled", "paused"])
def test_who_leaves_a_rate_moves_those_behind_up(leaves: str, fan: Callable[..., UUID], rows: Rows) -> None:
    rate = {"rate_limit": {"key": "api", "per_second": 0.1}}
    one, other, third = fan(4, own=rate), fan(2, own=rate), fan(1, own=rate)
    for run_id in (one, other, third):
        execute(run_id, 0, 1)
    assert begin(one, 1) is not None
    assert [begin(run_id, idx) for run_id, idx in ((one, 2), (one, 3), (other, 1), (one, 4), (other, 2))] == [None] * 5
    (owner,) = rows("SELECT owner_id FROM runs WHERE id = :run", run=one)
    if leaves == "paused":
        carry_out(steering.pause(owner, one))
        assert [hold for _, hold in held(rows, one)] == ["paused"] * 3
    else:
        with transaction() as session:
            cancel(session, owner, one, "enough")
    assert begin(third, 1) is None
    waits = rows(
        "SELECT round(extract(epoch FROM e.due_at - e.started_at_first)) FROM (SELECT due_at, run_id, idx, "
        "(SELECT min(started_at) FROM node_executions WHERE node = 1) AS started_at_first FROM node_executions "
        "WHERE hold = 'rate') e ORDER BY e.due_at"
    )
    assert [int(seconds) for seconds in waits] == [10, 20, 30], "one after the other, and none for who has left"
    assert rows("SELECT count(*) FROM rate_places") == [3]


def test_who_has_come_out_of_a_rate_has_no_place_in_it(fan: Callable[..., UUID], rows: Rows) -> None:
    run_id = fan(2, own={"rate_limit": {"key": "api", "per_second": 0.1}})
    execute(run_id, 0, 1)
    end(begin(run_id, 1))
    assert begin(run_id, 2) is None
    assert rows("SELECT count(*) FROM rate_places") == [1]
    rows("UPDATE node_executions SET due_at = agentflow_now() WHERE hold = 'rate' RETURNING 1")
    end(begin(run_id, 2))
    assert rows("SELECT count(*) FROM rate_places") == [0]


def test_a_place_of_a_former_life_is_no_hindrance(fan: Callable[..., UUID], rows: Rows) -> None:
    run_id = fan(2, own={"rate_limit": {"key": "api", "per_second": 0.1}})
    execute(run_id, 0, 1)
    end(begin(run_id, 1))
    assert begin(run_id, 2) is None
    rows(
        "UPDATE node_executions SET hold = NULL, due_at = NULL WHERE hold = 'rate' RETURNING 1"
    )  # it ended, and is retried
    assert begin(run_id, 2) is None
    assert rows(
        "SELECT count(*) FROM rate_places p JOIN node_executions e USING (run_id, node, idx) WHERE p.at = e.due_at"
    ) == [1]


def test_a_large_run_keeps_to_its_window_and_lets_out_as_it_goes_on(
    fan: Callable[..., UUID], statuses: Statuses, rows: Rows, monkeypatch: pytest.MonkeyPatch, outputs: Outputs
) -> None:
    monkeypatch.setattr(settings(), "ready_window", 3)
    process.cache_clear()
    run_id = fan(10)
    execute(run_id, 0, 1)
    assert held(rows, run_id) == [(idx, "window") for idx in range(4, 11)]
    assert begin(run_id, 7) is None
    for idx in range(1, 11):
        execute(run_id, 1, idx)
        assert len(held(rows, run_id)) == max(7 - idx, 0)
    assert finalise(run_id)
    assert outputs(run_id, 1) == [("value", number) for number in range(10)]


def test_what_nobody_let_out_is_let_out_when_the_run_rests(
    fan: Callable[..., UUID], rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "ready_window", 2)
    process.cache_clear()
    run_id = fan(5)
    execute(run_id, 0, 1)
    rows("UPDATE node_executions SET hold = 'window', check_at = 'infinity' WHERE node = 1 RETURNING 1")
    assert not finalise(run_id)
    assert held(rows, run_id) == [(3, "window"), (4, "window"), (5, "window")]


def test_runs_beyond_the_active_ones_start_when_others_end(
    probe: Probe, chain: Chain, statuses: Statuses, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "max_active_runs", 2)
    block = probe(passes)
    run_ids = [chain(block, value=number) for number in range(4)]
    for run_id in run_ids:
        execute(run_id, 0, 1)
    assert [statuses(run_id)["0/1"] for run_id in run_ids] == ["COMPLETED", "COMPLETED", "QUEUED", "QUEUED"]
    assert rows("SELECT status FROM runs ORDER BY id") == ["RUNNING", "RUNNING", "QUEUED", "QUEUED"]
    assert finalise(run_ids[0])
    for run_id in run_ids:
        execute(run_id, 0, 1)
    assert [statuses(run_id)["0/1"] for run_id in run_ids] == ["COMPLETED", "COMPLETED", "COMPLETED", "QUEUED"]
    assert finalise(run_ids[2])
    execute(run_ids[3], 0, 1)
    assert statuses(run_ids[3])["0/1"] == "COMPLETED"


def test_a_run_that_waits_makes_room_and_a_lost_admission_is_made_up_for(
    probe: Probe, chain: Chain, statuses: Statuses, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waits(inputs: Any, context: Context) -> Yields:
        yield Timer(3600)

    monkeypatch.setattr(settings(), "max_active_runs", 1)
    first, second, third = chain(probe(waits)), chain(probe(passes)), chain(probe(passes))
    execute(first, 0, 1)
    assert not finalise(first)
    execute(second, 0, 1)
    assert statuses(second) == {"0/1": "COMPLETED"}
    rows("UPDATE runs SET status = 'COMPLETED', ended_at = now() WHERE id = :run RETURNING 1", run=second)
    Upkeep(process()).run_pass()
    execute(third, 0, 1)
    assert statuses(third) == {"0/1": "COMPLETED"}


def test_a_paused_run_makes_room(
    probe: Probe, chain: Chain, statuses: Statuses, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "max_active_runs", 1)
    first, second, third = (chain(probe(passes)) for _ in range(3))
    (owner,) = rows("SELECT owner_id FROM runs WHERE id = :run", run=first)
    carry_out(steering.pause(owner, first))
    Upkeep(process()).run_pass()
    carry_out(steering.resume(owner, first))
    execute(first, 0, 1)
    assert statuses(first) == {"0/1": "QUEUED"}, "another has its place: it is in line"
    execute(second, 0, 1)
    assert statuses(second) == {"0/1": "COMPLETED"}
    assert finalise(second)
    execute(first, 0, 1)
    assert statuses(first) == {"0/1": "COMPLETED"}, "before those that came later"
    execute(third, 0, 1)
    assert statuses(third) == {"0/1": "QUEUED"}


def test_cached_outputs_stand_in_for_the_block(probe: Probe, chain: Chain, outputs: Outputs, rows: Rows) -> None:
    ran: list[Any] = []

    def counts(inputs: Any, context: Context) -> Yields:
        ran.append(inputs.value)
        context.report(cost=5)
        yield "value", {"of": inputs.value}
        yield "number", len(ran)

    block = probe(counts)
    runs = [chain(block, value=value, settings={"cache": {"ttl": 60}}) for value in (1, 1, 2)]
    for run_id in runs:
        execute(run_id, 0, 1)
        assert finalise(run_id)
    assert ran == [1, 2]
    assert outputs(runs[0]) == outputs(runs[1]) == [("value", {"of": 1}), ("number", 1)]
    assert [row["cost"] for row in rows("SELECT stats FROM runs ORDER BY id")] == [5, 0, 5]
    rows("UPDATE cached_outputs SET expires_at = agentflow_now() RETURNING 1")
    again = chain(block, value=1, settings={"cache": {"ttl": 60}})
    execute(again, 0, 1)
    assert ran == [1, 2, 1]


def test_what_failed_is_not_cached(probe: Probe, chain: Chain) -> None:
    ran: list[Any] = []

    def fails(inputs: Any, context: Context) -> Yields:
        ran.append(1)
        yield "value", 1
        raise ValueError("no")

    block = probe(fails)
    for _ in range(2):
        execute(chain(block, value=1, settings={"cache": {"ttl": 60}}), 0, 1)
    assert ran == [1, 1]


def test_a_run_ends_when_it_has_cost_more_than_its_budget(
    probe: Probe, submit: Submit, statuses: Statuses, rows: Rows
) -> None:
    nodes = [
        {"id": f"n{number}", "block_id": probe(passes, cost=4), "input_default": {"value": 1}} for number in range(4)
    ]
    run_id = submit({"name": "dear", "nodes": nodes, "links": [], "settings": {"budget": 8}})
    for number in range(4):
        execute(run_id, number, 1)
    assert list(statuses(run_id).values()) == ["COMPLETED", "COMPLETED", "COMPLETED", "CANCELLED"]
    assert finalise(run_id)
    assert rows("SELECT status, reason, error FROM runs") == [
        ("FAILED", "insufficient_balance", "the run has cost more than its budget")
    ]
    assert rows("SELECT stats ->> 'cost' FROM runs") == ["12"]
