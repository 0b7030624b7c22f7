"""Nothing is lost and nothing comes twice, whatever dies; and a run that is cancelled stops."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from fleet import Fleet, graph, link, node, noted, until

pytestmark = pytest.mark.scenario


def sleeper(seconds: float, log: Path) -> dict[str, Any]:
    return graph(
        [node("sleep", "TestSleep", seconds=seconds, value="done", log=str(log)), node("out", "AgentOutput", name="v")],
        [link("sleep:value", "out:value")],
    )


def test_a_worker_killed_in_mid_node_loses_nothing(fleet: Fleet, log: Path) -> None:
    run_id = fleet.submit(sleeper(2.0, log))
    _, _, _, pid = until(lambda: noted(log), "the block runs")[0]
    victim = next(
        name
        for name, process in fleet.workers.items()
        if pid in {process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))}
    )
    fleet.kill(victim)
    run = fleet.ended(run_id)
    assert (run.status, run.outputs) == ("COMPLETED", {"v": ["done"]})
    assert [attempt for _, _, attempt, _ in noted(log)] == [1, 2]


@pytest.mark.parametrize("which", ["main process", "child"])
def test_any_one_process_of_a_worker_killed_in_mid_run_loses_nothing(fleet: Fleet, log: Path, which: str) -> None:
    items = list(range(30))
    document = graph(
        [
            node("each", "StepThroughItems", items=items),
            node("work", "TestSleep", seconds=0.1, log=str(log)),
            node("out", "AgentOutput", name="v"),
        ],
        [link("each:item", "work:value"), link("work:value", "out:value")],
    )
    run_id = fleet.submit(document)
    _, _, _, pid = until(lambda: noted(log)[5:], "the run is under way")[0]
    name, process = next(
        (name, process)
        for name, process in fleet.workers.items()
        if pid in {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
    )
    os.kill(process.pid if which == "main process" else pid, signal.SIGKILL)
    run = fleet.ended(run_id, seconds=60)
    assert (run.status, run.outputs) == ("COMPLETED", {"v": items})
    if which == "main process":
        fleet.kill(name)  # what is left of it


def test_every_worker_killed_in_turn_while_a_wide_run_goes_on(fleet: Fleet, log: Path) -> None:
    items = list(range(60))
    document = graph(
        [
            node("each", "StepThroughItems", items=items),
            node("work", "TestSleep", seconds=0.05, log=str(log)),
            node("out", "AgentOutput", name="v"),
        ],
        [link("each:item", "work:value"), link("work:value", "out:value")],
    )
    run_id = fleet.submit(document)
    for noted_so_far in (8, 20, 32):
        until(lambda wanted=noted_so_far: len(noted(log)) >= wanted, "the run is under way")
        fleet.kill(next(iter(fleet.workers)))
        fleet.start_worker()
    run = fleet.ended(run_id, seconds=90)
    assert (run.status, run.outputs) == ("COMPLETED", {"v": items})


def test_a_child_that_dies_is_replaced_and_its_work_runs_again_at_once(fleet: Fleet, log: Path) -> None:
    started = time.monotonic()
    document = graph(
        [node("die", "TestDie", times=1, value=7, log=str(log)), node("out", "AgentOutput", name="v")],
        [link("die:value", "out:value")],
    )
    run = fleet.run(document)
    assert (run.status, run.outputs) == ("COMPLETED", {"v": [7]})
    assert [attempt for _, _, attempt, _ in noted(log)] == [1, 2]
    assert time.monotonic() - started < 20


def test_a_child_is_missed_as_soon_as_it_is_gone(fleet: Fleet, log: Path) -> None:
    """Celery by itself looks for children that are gone every five seconds: the fourth would take fifteen at least."""
    fleet.have_workers(1)
    started = time.monotonic()
    run = fleet.run(graph([node("die", "TestDie", {"max_losses": 4}, times=4, log=str(log))], []))
    assert (run.status, len(noted(log))) == ("COMPLETED", 5)
    assert time.monotonic() - started < 12


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGQUIT])
def test_a_block_that_ends_its_process_as_its_worker_would_is_not_run_for_ever(
    fleet: Fleet, log: Path, how: signal.Signals
) -> None:
    run = fleet.run(graph([node("die", "TestDie", {"max_losses": 1}, times=99, signal=how, log=str(log))], []))
    assert (run.status, run.reason) == ("FAILED", "worker_lost")
    assert len(noted(log)) == 2


def test_a_block_that_always_kills_its_process_ends_failed(fleet: Fleet, log: Path) -> None:
    document = graph(
        [node("die", "TestDie", {"max_losses": 1}, times=99, log=str(log)), node("out", "AgentOutput", name="why")],
        [link("die:error", "out:value")],
    )
    run = fleet.run(document)
    assert run.status == "COMPLETED", "its error is handled"
    assert run.outputs == {"why": ["its worker process died"]}
    assert len(noted(log)) == 2
    unhandled = fleet.run(graph([node("die", "TestDie", {"max_losses": 0}, times=99, log=str(log))], []))
    assert (unhandled.status, unhandled.reason) == ("FAILED", "worker_lost")


def test_a_run_that_kills_whoever_finalises_it_ends_failed(fleet: Fleet) -> None:
    run_id = fleet.submit(graph([node("only", "TestLethal")], []))

    def over() -> bool:
        fleet.ensure_workers(1)  # recovery may die of it, too; once
        return fleet.client.get_run(run_id).ended

    until(over, "it is given up", seconds=60)
    run = fleet.client.get_run(run_id)
    assert (run.status, run.reason) == ("FAILED", "engine")
    assert "died" in (run.error or "")
    assert fleet.run(graph([node("n", "StoreValue", input=1)], [])).status == "COMPLETED"


def test_messages_that_are_lost_are_sent_again(fleet: Fleet, broker: Any) -> None:
    document = graph(
        [
            node("each", "StepThroughItems", items=list(range(30))),
            node("work", "TestSleep", seconds=0.05),
            node("out", "AgentOutput", name="v"),
        ],
        [link("each:item", "work:value"), link("work:value", "out:value")],
    )
    run_id = fleet.submit(document)
    until(lambda: fleet.client.get_run(run_id).outputs.get("v"), "the first values are there")
    broker.flushdb()
    run = fleet.ended(run_id, seconds=90)
    assert (run.status, run.outputs) == ("COMPLETED", {"v": list(range(30))})


def test_a_run_that_is_cancelled_while_queued_never_starts(fleet: Fleet, log: Path) -> None:
    for process in fleet.workers.values():
        os.kill(process.pid, signal.SIGSTOP)
        for child in psutil.Process(process.pid).children(recursive=True):
            child.suspend()
    try:
        run_id = fleet.submit(sleeper(0.0, log))
        assert fleet.client.cancel(run_id).cancel_requested_at is not None
        assert {status for _, _, status in fleet.statuses(run_id)} == {"CANCELLED"}
    finally:
        for process in fleet.workers.values():
            os.kill(process.pid, signal.SIGCONT)
            for child in psutil.Process(process.pid).children(recursive=True):
                child.resume()
    run = fleet.ended(run_id)
    assert (run.status, noted(log)) == ("CANCELLED", [])


@pytest.mark.parametrize("block", ["TestSleep", "TestAsyncSleep", "loop", "swallow", "regex"])
def test_a_running_block_is_stopped_when_its_run_is_cancelled(fleet: Fleet, log: Path, block: str) -> None:
    if block.startswith("Test"):
        first = node("first", block, seconds=300, log=str(log))
    else:
        first = node("first", "TestStubborn", how=block, log=str(log))
    document = graph([first, node("out", "AgentOutput", name="v")], [link("first:value", "out:value")])
    run_id = fleet.submit(document)
    until(lambda: noted(log), "the block runs")
    assert fleet.client.get_run(run_id).status == "RUNNING"
    requested = fleet.client.cancel(run_id).cancel_requested_at
    run = fleet.ended(run_id)
    assert (run.status, run.outputs) == ("CANCELLED", {})
    assert fleet.statuses(run_id) == [("first", 1, "CANCELLED")]
    (first,) = fleet.client.nodes(run_id)
    took = (first.ended_at - requested).total_seconds()
    if block == "swallow":
        assert 10 <= took < 30, "it holds on: 10 s later it loses its process"
        assert not psutil.pid_exists(noted(log)[0][3])
    else:
        assert took < 5
    assert fleet.run(sleeper(0.0, log)).status == "COMPLETED", "the workers go on"


def test_an_attempt_that_runs_too_long_ends_failed(fleet: Fleet, log: Path) -> None:
    for first in (
        node("first", "TestSleep", {"timeout": 0.5}, seconds=300, log=str(log)),
        node("first", "TestAsyncSleep", {"timeout": 0.5}, seconds=300, log=str(log)),
        node("first", "TestStubborn", {"timeout": 0.5}, how="loop", log=str(log)),
    ):
        run = fleet.run(graph([first], []))
        assert (run.status, run.reason) == ("FAILED", "node_failed")
        assert run.error is not None
        assert "longer than 0.5 s" in run.error


def test_a_block_that_ignores_its_timeout_loses_its_process(fleet: Fleet, log: Path) -> None:
    run = fleet.run(graph([node("first", "TestStubborn", {"timeout": 0.5}, how="swallow", log=str(log))], []))
    assert (run.status, run.reason) == ("FAILED", "node_failed")
    assert run.error is not None
    assert "killed" in run.error
    assert len(noted(log)) == 1, "a timeout is not a lost worker: it does not run again"


def test_a_restart_of_all_workers_loses_nothing(fleet: Fleet, log: Path) -> None:
    document = graph(
        [
            node("each", "StepThroughItems", items=list(range(40))),
            node("work", "TestSleep", seconds=0.05, log=str(log)),
            node("out", "AgentOutput", name="v"),
        ],
        [link("each:item", "work:value"), link("work:value", "out:value")],
    )
    run_id = fleet.submit(document)
    until(lambda: len(noted(log)) >= 10, "the run is under way")
    for name in list(fleet.workers):
        process = fleet.workers.pop(name)
        process.terminate()
        process.wait(timeout=30)
    fleet.ensure_workers(2)
    run = fleet.ended(run_id, seconds=90)
    assert (run.status, run.outputs) == ("COMPLETED", {"v": list(range(40))})
    assert len(noted(log)) == 40, "a warm shutdown finishes what it runs: nothing runs twice"


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGTERM])
def test_a_worker_that_is_stopped_gives_its_work_to_another_and_fails_nothing(
    fleet: Fleet, log: Path, how: signal.Signals
) -> None:
    """SIGQUIT: the worker stops without waiting. SIGTERM to it and its children, as service managers send it.

    Neither is a loss, of which none is borne here.
    """
    document = sleeper(8.0, log)
    document["settings"] = {"max_losses": 0}
    run_id = fleet.submit(document)
    _, _, _, pid = until(lambda: noted(log), "the block runs")[0]
    name, process = next(
        (name, process)
        for name, process in fleet.workers.items()
        if pid in {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
    )
    if how is signal.SIGQUIT:
        process.send_signal(how)
    else:
        os.killpg(process.pid, how)
    until(lambda: process.poll() is not None, "the worker ends")
    del fleet.workers[name]
    run = fleet.ended(run_id, seconds=60)
    assert (run.status, run.outputs) == ("COMPLETED", {"v": ["done"]})
    assert [attempt for _, _, attempt, _ in noted(log)] == [1, 2]
