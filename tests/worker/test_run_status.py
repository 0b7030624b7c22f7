"""What a run reads while it goes on: QUEUED, RUNNING, WAITING, and paused beside these."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from probes import Probe, Rows, Statuses, Submit, Yields, passes
from steps import claim, execute, wake_due

from agentflow.blocks.base import Context
from agentflow.engine.waits import Timer
from agentflow.worker.execute import perform, settle
from agentflow.worker.finalise import finalise
from agentflow.worker.process import process

pytestmark = pytest.mark.timeout(60, method="thread")


def sleeps(inputs: Any, context: Context) -> Yields:
    if context.resumed is None:
        yield Timer(3600)
    else:
        yield "value", "slept"


@pytest.fixture
def reads(api: Any) -> Callable[[UUID], tuple[str, bool]]:
    """What a run reads over HTTP: its status, and whether it is paused."""

    def ask(run_id: UUID) -> tuple[str, bool]:
        run = api.get(f"/api/v1/runs/{run_id}").json
        return run["status"], run["paused_at"] is not None

    return ask


@pytest.fixture
def wake(rows: Rows) -> Callable[[UUID], bool]:
    """The time has come for which the first node waits; whether it is awake now."""

    def come(run_id: UUID) -> bool:
        rows("UPDATE waits SET until = agentflow_now() WHERE run_id = :run RETURNING 1", run=run_id)
        return wake_due(run_id, 0, 1)

    return come


Reads = Callable[[UUID], tuple[str, bool]]


@pytest.fixture
def run_id(probe: Probe, submit: Submit) -> UUID:
    """A run of one node that waits, and one that does not."""
    nodes = [{"id": name, "block_id": probe(run)} for name, run in (("sleeps", sleeps), ("other", passes))]
    return submit({"name": "two", "nodes": nodes, "links": []})


def test_a_run_waits_when_nothing_is_queued_or_running_and_something_waits(
    run_id: UUID, reads: Reads, statuses: Statuses, wake: Callable[[UUID], bool]
) -> None:
    assert reads(run_id) == ("QUEUED", False)
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "WAITING", "1/1": "QUEUED"}
    assert not finalise(run_id)
    assert reads(run_id) == ("RUNNING", False), "something is queued"
    other = claim(process(), run_id, 1, 1)
    assert other is not None
    assert not finalise(run_id)
    assert reads(run_id) == ("RUNNING", False), "something runs"
    settle(other, perform(other))
    assert not finalise(run_id)
    assert reads(run_id) == ("WAITING", False)
    assert wake(run_id)
    assert statuses(run_id)["0/1"] == "QUEUED"
    woken = claim(process(), run_id, 0, 1)
    assert woken is not None
    assert reads(run_id) == ("RUNNING", False)
    settle(woken, perform(woken))
    assert finalise(run_id)
    assert reads(run_id) == ("COMPLETED", False)


def test_what_is_woken_in_a_paused_run_starts_when_it_is_resumed(
    run_id: UUID, reads: Reads, statuses: Statuses, wake: Callable[[UUID], bool], api: Any
) -> None:
    execute(run_id, 0, 1)
    execute(run_id, 1, 1)
    assert not finalise(run_id)
    assert api.post(f"/api/v1/runs/{run_id}/pause").status_code == 200
    assert reads(run_id) == ("WAITING", True), "a flag beside the status"
    assert wake(run_id)
    execute(run_id, 0, 1)
    assert statuses(run_id)["0/1"] == "QUEUED", "nothing new starts"
    assert not finalise(run_id), "and it has something left to do"
    assert api.post(f"/api/v1/runs/{run_id}/resume").status_code == 200
    execute(run_id, 0, 1)
    assert finalise(run_id)
    assert reads(run_id) == ("COMPLETED", False)
