"""What Celery's main process does with how a task ended, and what Celery's events say of the node execution."""

import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery.exceptions import Ignore
from celery.worker.request import Request

from agentflow.engine.settlement import COMPLETED, Transition, WaitFor
from agentflow.engine.statuses import NodeStatus
from agentflow.storage.hot.node_executions import Settled, Standing
from agentflow.worker import request
from agentflow.worker.endings import NodeExecutionFailed, NodeExecutionStopped, ending, lost, postgres_away
from agentflow.worker.request import NodeRequest

Ended = Callable[..., SimpleNamespace]

LANDED = Settled("landed", [], None, False)
FAILED = Transition.failed("user", "no such city")
AGAIN = Transition.retried("transient", "503", 2.0)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Ended:
    """`ended(error, killed_for=None)`: a task ended so; what was given back, sent, and done with the message."""

    def end(error: BaseException, killed_for: Any = None) -> SimpleNamespace:
        seen = SimpleNamespace(given_back=[], events=[], done=[], told=None)

        def return_lease(*args: Any, timed_out: bool, died: bool, told: Any) -> None:
            seen.given_back.append((*args, timed_out, died))
            seen.told = told

        monkeypatch.setattr(request, "keeper", lambda: SimpleNamespace(return_lease=return_lease))
        monkeypatch.setattr(NodeRequest, "send_event", lambda _, kind, **fields: seen.events.append((kind, fields)))
        monkeypatch.setattr(NodeRequest, "acknowledge", lambda _: seen.done.append("acknowledged"))
        monkeypatch.setattr(NodeRequest, "reject", lambda _, requeue: seen.done.append(f"rejected {requeue}"))
        monkeypatch.setattr(Request, "_success_was_stored", lambda _: False)
        made = NodeRequest.__new__(NodeRequest)
        made.id, made._args, made.worker_pid, made.killed_for = "id", ["run", 0, 1], 7, killed_for
        backend = SimpleNamespace(mark_as_failure=lambda *_, **__: None)
        made._task = SimpleNamespace(
            acks_late=True, acks_on_failure=True, reject_on_worker_lost=True, retry_on_worker_lost=False,
            backend=backend, name="agentflow.execute",
        )  # fmt: skip
        try:
            raise error
        except BaseException:
            crossed = pickle.loads(pickle.dumps(ExceptionInfo()))  # as it comes from the child
        made.on_failure(crossed, return_ok=True)
        return seen

    return end


@pytest.mark.parametrize(
    ("error", "killed_for", "given_back", "done", "event"),
    [
        (ending(FAILED, LANDED), None, [], "acknowledged", "task-failed"),
        (ending(AGAIN, LANDED), None, [], "acknowledged", "task-retried"),
        (ending(FAILED, Settled("stopped", [], None, False)), None, [], "acknowledged", "task-revoked"),
        (lost(Standing(NodeStatus.RUNNING, None)), None, [], "acknowledged", "task-retried"),
        (lost(Standing(NodeStatus.FAILED, "its worker was lost")), None, [], "acknowledged", "task-failed"),
        (postgres_away(OSError("away")), None, [False], "acknowledged", "task-retried"),
        (WorkerLostError("killed"), None, [False], "acknowledged", None),  # until it is known how it stands
        (WorkerLostError("killed"), "overran", [True], "acknowledged", None),  # nor here
        (WorkerLostError("killed"), "stopped", [False], "acknowledged", "task-revoked"),
    ],
)
def test_an_end_gives_back_what_is_not_settled_and_is_told_as_it_is(
    ended: Ended, error: Exception, killed_for: str | None, given_back: list[bool], done: str, event: str | None
) -> None:
    seen = ended(error, killed_for)
    died = isinstance(error, WorkerLostError)
    assert seen.given_back == [(["run", 0, 1], 7, timed_out, died) for timed_out in given_back]
    assert seen.done == [done]
    assert [kind for kind, _ in seen.events] == ([event] if event else [])
    assert "Traceback" not in repr(seen.events)


@pytest.mark.parametrize(
    ("stands", "event"),
    [
        (Standing(NodeStatus.QUEUED, None), "task-retried"),
        (Standing(NodeStatus.RUNNING, None), "task-retried"),  # by another
        (Standing(NodeStatus.FAILED, "its worker process died"), "task-failed"),
        (Standing(NodeStatus.CANCELLED, None), "task-revoked"),
        (Standing(NodeStatus.COMPLETED, None), "task-succeeded"),
        (Standing(NodeStatus.WAITING, None), "task-succeeded"),
        (None, "task-retried"),
    ],
)
def test_one_whose_process_died_is_told_as_it_stands_then(ended: Ended, stands: Standing | None, event: str) -> None:
    seen = ended(WorkerLostError("killed"))
    seen.told(stands)
    ((kind, fields),) = seen.events
    assert kind == event
    if event == "task-failed":
        assert "its worker process died" in fields["exception"]


def test_a_worker_that_stops_gives_the_message_back(ended: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "stopping_was_said", lambda: True)
    seen = ended(WorkerLostError("killed"))
    assert seen.done == ["rejected True"]
    assert [kind for kind, _ in seen.events] == ["task-retried"]
    assert seen.told is None


def test_a_failure_is_told_with_what_the_block_said(ended: Ended) -> None:
    failed = ending(FAILED, LANDED)
    assert isinstance(failed, NodeExecutionFailed)
    ((_, fields),) = ended(failed).events
    assert "no such city" in fields["exception"]


@pytest.mark.parametrize("made", [COMPLETED, Transition.waiting(WaitFor("timer", "", 1, {}))])
def test_what_goes_on_or_is_done_has_succeeded(made: Transition) -> None:
    assert ending(made, LANDED) is None


def test_a_stopped_one_is_nothing_that_celery_logs_a_traceback_of() -> None:
    assert isinstance(ending(COMPLETED, Settled("stopped", [], None, False)), NodeExecutionStopped)
    assert issubclass(NodeExecutionStopped, Ignore)


def test_a_long_message_is_cut() -> None:
    assert len(str(ending(Transition.failed("user", "x" * 10_000), LANDED))) < 600
