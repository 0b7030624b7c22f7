"""Flower, Celery's events and the workers' logs say what became of each node execution, without tracebacks of ours."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from fleet import Fleet, graph, link, node, noted, until

from agentflow.dispatch.transport import install

Events = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def events(fleet: Fleet) -> Iterator[Events]:
    """`events(kind)`: the events of that kind that the workers have sent since the test began."""
    install()
    seen: list[dict[str, Any]] = []
    with Celery(broker=fleet.broker_url, set_as_current=False) as app, app.connection_for_read() as connection:
        app.control.enable_events()
        receiver = app.events.Receiver(connection, handlers={"*": seen.append})
        # One call to the end: between two it does not subscribe, and what is sent then is lost.
        thread = threading.Thread(target=receiver.capture, kwargs={"limit": None, "timeout": None}, daemon=True)
        thread.start()
        # Workers start sending within a moment of being told.
        until(
            lambda: fleet.run(graph([node("n", "StoreValue", input=1)], [])) and any_of(seen, "task-succeeded"),
            "events",
        )
        seen.clear()
        yield lambda kind: any_of(seen, kind)
        receiver.should_stop = True  # it looks every second
        thread.join(timeout=5)
        app.control.disable_events()


def any_of(seen: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in list(seen) if event["type"] == kind]


def logged(fleet: Fleet, since: dict[str, int] | None = None) -> str:
    """What all workers have logged."""
    return "".join(path.read_text(errors="replace")[(since or {}).get(path.name, 0) :] for path in logs(fleet))


def logs(fleet: Fleet) -> list[Path]:
    return sorted(fleet._logs.glob("w*.log"))


@pytest.fixture
def log_of(fleet: Fleet) -> Callable[[], str]:
    """`log_of()`: what the workers have logged since the test began."""
    since = {path.name: len(path.read_text(errors="replace")) for path in logs(fleet)}
    return lambda: logged(fleet, since)


def test_a_failed_one_is_a_failed_task_and_one_line_of_the_log(
    fleet: Fleet, events: Events, log_of: Callable[[], str]
) -> None:
    run = fleet.run(graph([node("first", "TestFail", kind="user")], []))
    assert run.status == "FAILED"
    (event,) = until(lambda: events("task-failed"), "the event")
    assert "it broke" in event["exception"]
    assert not event["traceback"]
    lines = until(lambda: [line for line in log_of().splitlines() if "run_ended" in line], "the run's end is logged")
    assert any("WARNING" in line and "it broke" in line and "first" in line for line in lines)
    (line,) = [line for line in log_of().splitlines() if "node_execution_failed" in line]
    for part in ("WARNING", f"run={run.id}", "node=first", "block=TestFail", "index=1", "reason=user", "it broke"):
        assert part in line
    assert "Traceback" not in log_of()


def test_one_that_is_tried_again_is_a_retried_task(fleet: Fleet, events: Events, log_of: Callable[[], str]) -> None:
    settings = {"retry": {"max_failures": 3, "base": 0.01}}
    run = fleet.run(graph([node("first", "TestFail", settings, kind="transient", times=2)], []))
    assert run.status == "COMPLETED"
    until(lambda: len(events("task-retried")) == 2, "two are tried again")
    assert "it broke" in events("task-retried")[0]["exception"]
    assert not events("task-failed")
    assert log_of().count("node_execution_tried_again") == 2
    assert "node_execution_failed" not in log_of()
    assert "Traceback" not in log_of()


def test_one_that_is_stopped_is_a_revoked_task(
    fleet: Fleet, events: Events, log_of: Callable[[], str], log: Path
) -> None:
    run_id = fleet.submit(graph([node("first", "TestSleep", seconds=300, log=str(log))], []))
    until(lambda: noted(log), "the block runs")
    fleet.client.cancel(run_id)
    assert fleet.ended(run_id).status == "CANCELLED"
    (event,) = until(lambda: events("task-revoked"), "the event")
    assert event["terminated"] is False
    assert not events("task-failed")
    assert "Traceback" not in log_of()


@pytest.mark.parametrize("bug", ["RuntimeError", "ZeroDivisionError"])
def test_a_bug_of_a_block_has_its_traceback_in_the_log_and_in_the_view(
    fleet: Fleet, events: Events, log_of: Callable[[], str], bug: str
) -> None:
    run = fleet.run(graph([node("first", "TestFail", kind=bug)], []))
    assert run.status == "FAILED"
    until(lambda: events("task-failed"), "the event")
    text = log_of()
    assert text.count("Traceback (most recent call last)") == 1
    assert "scenario_blocks.py" in text
    assert "agentflow/worker" not in text.partition("Traceback")[2].partition("\n[")[0]
    (execution,) = until(
        lambda: [item for item in fleet.client.nodes(run.id) if item.traceback], "the traceback is in the view"
    )
    assert "scenario_blocks.py" in execution.traceback
    assert execution.traceback.endswith("it broke")


def test_one_that_overran_is_a_failed_task(fleet: Fleet, events: Events, log_of: Callable[[], str], log: Path) -> None:
    began = time.monotonic()
    run = fleet.run(graph([node("first", "TestStubborn", {"timeout": 0.5}, how="swallow", log=str(log))], []))
    assert run.status == "FAILED"
    assert 10 < time.monotonic() - began < 25
    until(lambda: events("task-failed"), "the event")
    assert "timeout" in events("task-failed")[0]["exception"]
    assert log_of().count("child_killed") == 1
    assert log_of().count("node_execution_failed") == 1
    assert "Traceback" not in log_of()


def test_one_that_overran_and_has_a_retry_is_a_retried_task(
    fleet: Fleet, events: Events, log_of: Callable[[], str], log: Path
) -> None:
    retry = {"max_failures": 1, "base": 0}
    settings = {"timeout": 0.5, "retry": retry}
    run = fleet.run(graph([node("first", "TestStubborn", settings, how="swallow", log=str(log))], []))
    assert run.status == "FAILED"
    until(lambda: events("task-failed") and events("task-retried"), "the events")
    assert log_of().count("child_killed") == 2
    assert log_of().count("node_execution_tried_again") == 1
    assert log_of().count("node_execution_failed") == 1


def test_what_handles_an_error_fails_no_run_but_is_told(fleet: Fleet, events: Events) -> None:
    nodes = [node("first", "TestFail", kind="user"), node("out", "AgentOutput", name="v")]
    run = fleet.run(graph(nodes, [link("first:error", "out:value")]))
    assert run.status == "COMPLETED"
    until(lambda: len(events("task-failed")) == 1, "the event")


def test_one_whose_child_died_is_a_retried_task(
    fleet: Fleet, events: Events, log_of: Callable[[], str], log: Path
) -> None:
    run = fleet.run(graph([node("first", "TestDie", times=1, log=str(log))], []))
    assert run.status == "COMPLETED"
    until(lambda: events("task-retried"), "the event")
    assert log_of().count("child_lost") == 1
    assert "Traceback" not in log_of()


def test_one_whose_child_died_too_often_is_a_failed_task(
    fleet: Fleet, events: Events, log_of: Callable[[], str], log: Path
) -> None:
    run = fleet.run(graph([node("first", "TestDie", {"max_losses": 1}, times=9, log=str(log))], []))
    assert (run.status, run.reason) == ("FAILED", "worker_lost")
    (failed,) = until(lambda: events("task-failed"), "the event")
    (retried,) = events("task-retried")
    assert "its worker process died" in failed["exception"]
    assert retried["uuid"] != failed["uuid"], "each attempt is a task of its own"
    assert not [event for event in events("task-succeeded") if event["uuid"] in (retried["uuid"], failed["uuid"])]
    assert log_of().count("child_lost") == 2
    assert "Traceback" not in log_of()
