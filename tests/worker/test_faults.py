"""Where the engine itself fails at something, that is counted and ends: nothing is tried for ever."""

import os
import signal
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from celery.exceptions import Retry
from flask.testing import FlaskClient
from probes import Chain, Outputs, Probe, Rows, Statuses, passes

from agentflow.engine.execution import ExecutionKey
from agentflow.engine.statuses import RUN_TERMINAL
from agentflow.errors import Unavailable
from agentflow.services import cancellation, plans
from agentflow.services.transaction import carry_out, transaction
from agentflow.settings import Settings, settings
from agentflow.storage.connect import after_fork
from agentflow.storage.hot.node_executions import HotConnection
from agentflow.worker import finalise
from agentflow.worker.execute import execute as _execute
from agentflow.worker.faults import count_death, counted
from agentflow.worker.process import Process, process
from agentflow.worker.recovery import Recovery

SECRET = "hush: INSERT INTO runs"


def breaks(*_: Any, **__: Any) -> Any:
    raise ValueError(SECRET)


def execute(run_id: str, node: int, idx: int) -> None:
    """As the task does."""
    key = ExecutionKey(UUID(run_id), node, idx)
    with counted(key):
        _execute(key)


def finalise_run(run_id: str) -> None:
    """As the task does."""
    with counted(UUID(run_id)):
        finalise.finalise(UUID(run_id))


def fresh() -> None:
    """A process that remembers nothing."""
    process().hot.close()
    process.cache_clear()


def tried(task: Callable[[], object], most: int = 20) -> int:
    """How often a task fails, as it is tried again each time that its message goes back to the broker."""
    for times in range(most):
        try:
            task()
        except SystemExit:
            fresh()
        except ValueError:
            return times + 1
        else:
            return times
    raise AssertionError(f"it was tried {most} times, and would be for ever")


def dies(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def survives(task: Callable[[], object]) -> bool:
    """Whether a process lives through the task: a child of this one, as of a worker."""
    child = os.fork()
    if not child:
        after_fork()
        process.cache_clear()
        task()
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def deliver_finaliser(run_id: UUID, *, redelivered: bool) -> None:
    """As Celery runs the task of such a message."""
    from agentflow.worker import tasks  # the app wants the broker's address when it is imported

    request = SimpleNamespace(request=SimpleNamespace(delivery_info={"redelivered": redelivered}))
    tasks.finalise_run.run.__func__(request, str(run_id))


@pytest.fixture
def recovery(environment: Settings) -> Iterator[Recovery]:
    made = Process()
    yield Recovery(made)
    made.hot.close()


@pytest.fixture
def ended(rows: Rows) -> Callable[[UUID], tuple[str, str | None, str | None]]:
    def ask(run_id: UUID) -> Any:
        return rows("SELECT status, reason, error FROM runs WHERE id = :run", run=run_id)[0]

    return ask


@pytest.mark.parametrize(
    "where",
    [
        "agentflow.storage.hot.node_executions.HotConnection.claim",
        "agentflow.worker.execute.Attempt",
        "agentflow.worker.execute.settle",
    ],
)
def test_what_cannot_be_worked_on_ends_failed_with_its_cause(
    where: str, probe: Probe, chain: Chain, statuses: Statuses, ended: Any, monkeypatch: Any, caplog: Any
) -> None:
    run_id = chain(probe(passes))
    monkeypatch.setattr(where, breaks)
    assert tried(lambda: execute(str(run_id), 0, 1)) == settings().max_losses + 1
    assert statuses(run_id) == {"0/1": "FAILED system"}
    finalise_run(str(run_id))
    status, reason, error = ended(run_id)
    assert (status, reason) == ("FAILED", "engine")
    assert "ValueError" in error
    assert SECRET not in error, "what a library says is for the log"
    assert any(record.exc_info and SECRET in str(record.exc_info[1]) for record in caplog.records)


def test_its_error_goes_out_like_any_other(
    probe: Probe, chain: Chain, statuses: Statuses, outputs: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = chain(probe(passes), probe(passes), pin="error")
    with monkeypatch.context() as patch:
        patch.setattr(HotConnection, "claim", breaks)
        tried(lambda: execute(str(run_id), 0, 1))
    execute(str(run_id), 1, 1)
    assert statuses(run_id) == {"0/1": "FAILED system", "1/1": "COMPLETED"}
    ((_, told),) = outputs(run_id, 1)
    assert "the engine failed" in told


def test_a_run_whose_plan_cannot_be_read_is_given_up(
    probe: Probe, chain: Chain, statuses: Statuses, ended: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = chain(probe(passes), probe(passes))
    monkeypatch.setattr("agentflow.worker.process.plan_of", breaks)
    assert tried(lambda: execute(str(run_id), 0, 1)) == settings().max_losses + 1
    assert ended(run_id)[:2] == ("FAILED", "engine")
    assert statuses(run_id) == {"0/1": "CANCELLED"}
    assert tried(lambda: execute(str(run_id), 0, 1)) == 0
    assert tried(lambda: finalise_run(str(run_id))) == 0


def test_what_recovery_cannot_mend_ends_too(
    recovery: Recovery, probe: Probe, chain: Chain, ended: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message was lost, and it cannot be rung: no worker ever hears of it."""
    run_id = chain(probe(passes))
    bystander = chain(probe(passes))
    with transaction() as session:
        graph_id = session.connection().exec_driver_sql(f"SELECT graph_id FROM runs WHERE id = '{run_id}'").scalar_one()
    real = plans.plan_of

    def plan_of(session: Any, key: UUID, version: int) -> Any:
        return breaks() if key == graph_id else real(session, key, version)

    monkeypatch.setattr("agentflow.worker.process.plan_of", plan_of)
    for _ in range(10):
        for one in (run_id, bystander):
            with recovery.faults_counted(ExecutionKey(one, 0, 1)):
                recovery._repair(_overdue("publish", one))
    assert ended(run_id)[:2] == ("FAILED", "engine")
    assert ended(bystander)[0] == "QUEUED"


def _overdue(action: Any, run_id: UUID) -> Any:
    from agentflow.storage.hot.node_executions import Overdue

    return Overdue(action, ExecutionKey(run_id, 0, 1), None)


def test_a_run_that_cannot_be_finalised_ends_failed(
    probe: Probe, chain: Chain, ended: Any, rows: Rows, api: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = chain(probe(passes))
    execute(str(run_id), 0, 1)
    with monkeypatch.context() as patch:
        patch.setattr(finalise, "judge", breaks)
        assert tried(lambda: finalise_run(str(run_id))) == settings().max_losses + 1
    status, reason, error = ended(run_id)
    assert (status, reason) == ("FAILED", "engine")
    assert SECRET not in error
    shown = api.get(f"/api/v1/runs/{run_id}").json
    assert shown["stats"]["node_count"] == 1
    assert shown["ended_at"] is not None


def test_recovery_ends_a_forgotten_run_that_cannot_be_finalised(
    recovery: Recovery, probe: Probe, chain: Chain, ended: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tries it once, and has children try it from then on; whatever becomes of their messages, that ends too."""
    run_id = chain(probe(passes))
    execute(str(run_id), 0, 1)
    monkeypatch.setattr(finalise, "judge", breaks)
    monkeypatch.setattr(
        "agentflow.worker.recovery.publish_finaliser",
        lambda run_id, again: tried(lambda: deliver_finaliser(run_id, redelivered=again)),
    )
    for _ in range(2):
        recovery.end_forgotten_runs()
    assert ended(run_id)[:2] == ("FAILED", "engine")


def test_a_run_that_kills_whoever_finalises_it_ends_failed(
    probe: Probe, chain: Chain, ended: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed counts nothing; the message comes back to the next."""
    run_id = chain(probe(passes))
    execute(str(run_id), 0, 1)
    monkeypatch.setattr(finalise, "judge", dies)
    assert not survives(lambda: deliver_finaliser(run_id, redelivered=False))
    deaths = 1
    while not survives(lambda: deliver_finaliser(run_id, redelivered=True)):
        deaths += 1
        assert deaths < 10, "it would kill process after process for ever"
    assert deaths == settings().max_losses + 2, "the first message is not counted"
    status, reason, error = ended(run_id)
    assert (status, reason) == ("FAILED", "engine")
    assert "died" in error


def test_a_run_that_kills_whoever_finalises_it_kills_one_recovery_at_most(
    probe: Probe, chain: Chain, ended: Any, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message was lost with the process, each time; then children try it, and are counted."""
    run_id = chain(probe(passes))
    execute(str(run_id), 0, 1)
    rung: list[Any] = []
    monkeypatch.setattr(finalise, "judge", dies)
    monkeypatch.setattr("agentflow.worker.recovery.publish_finaliser", lambda *args, **said: rung.append((args, said)))

    def look() -> None:
        made = Recovery(Process())
        made.end_forgotten_runs()
        made._process.hot.close()

    assert not survives(look)
    look()
    assert rung == [((run_id,), {"again": True})]
    assert rows("SELECT losses FROM runs") == [1], "who rings has not tried it"
    for _ in range(settings().max_losses):
        assert not survives(lambda: deliver_finaliser(run_id, redelivered=True))
    assert ended(run_id)[0] not in RUN_TERMINAL
    look()
    assert ended(run_id)[:2] == ("FAILED", "engine")


def test_a_finaliser_that_comes_again_and_lives_is_not_counted(
    probe: Probe, chain: Chain, ended: Any, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is stopped gives its messages back, too."""
    run_id = chain(probe(passes), probe(passes))
    execute(str(run_id), 0, 1)
    for _ in range(settings().max_losses * 2):
        deliver_finaliser(run_id, redelivered=True)
    assert rows("SELECT losses FROM runs") == [0]
    execute(str(run_id), 1, 1)
    with monkeypatch.context() as patch:
        patch.setattr(finalise, "judge", breaks)
        with pytest.raises(SystemExit):
            deliver_finaliser(run_id, redelivered=True)
    assert rows("SELECT losses FROM runs") == [1], "once, by what it raised"
    monkeypatch.setattr(settings(), "max_losses", 0)
    fresh()
    cancelled = chain(probe(passes))
    carry_out(cancellation.stop_tree(cancelled, "CANCELLED", "enough"))  # type: ignore[arg-type]
    deliver_finaliser(cancelled, redelivered=True)
    assert ended(cancelled)[0] == "CANCELLED"


def test_a_cancelled_run_ends_cancelled_whatever_cannot_be_read_of_it(
    probe: Probe, chain: Chain, ended: Any, statuses: Statuses, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = chain(probe(passes))
    carry_out(cancellation.stop_tree(run_id, "CANCELLED", "enough"))  # type: ignore[arg-type]
    fresh()
    monkeypatch.setattr("agentflow.worker.process.plan_of", breaks)
    assert tried(lambda: execute(str(run_id), 0, 1)) == 0
    assert tried(lambda: finalise_run(str(run_id))) <= 1
    assert ended(run_id)[0] == "CANCELLED"
    assert statuses(run_id) == {"0/1": "CANCELLED"}


def test_what_was_put_back_after_the_stop_ends_without_its_plan(
    probe: Probe, chain: Chain, rows: Rows, statuses: Statuses, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = chain(probe(passes))
    carry_out(cancellation.stop_tree(run_id, "CANCELLED", "enough"))  # type: ignore[arg-type]
    with transaction() as session:
        session.connection().exec_driver_sql(
            "ALTER TABLE node_executions DISABLE TRIGGER USER;"
            "UPDATE node_executions SET status = 'QUEUED', open = true, ended_at = NULL;"
            "ALTER TABLE node_executions ENABLE TRIGGER USER"
        )
    fresh()
    monkeypatch.setattr("agentflow.worker.process.plan_of", breaks)
    assert tried(lambda: execute(str(run_id), 0, 1)) == 0
    assert statuses(run_id) == {"0/1": "CANCELLED"}


def test_children_of_a_run_that_was_given_up_are_stopped_and_its_parent_hears(
    probe: Probe, chain: Chain, ended: Any, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, child = chain(probe(passes)), chain(probe(passes))
    with transaction() as session:
        session.connection().exec_driver_sql(
            f"UPDATE runs SET parent_run_id = '{parent}', parent_node = 0, parent_idx = 1, parent_call = '', "
            f"root_id = '{parent}' WHERE id = '{child}'"
        )
    fresh()
    with monkeypatch.context() as patch:
        patch.setattr("agentflow.worker.process.plan_of", breaks)
        assert tried(lambda: execute(str(child), 0, 1)) == settings().max_losses + 1
        assert rows("SELECT nudged FROM waits WHERE run_id = :run", run=parent) == [True], "who waits for it is told"
        assert tried(lambda: execute(str(parent), 0, 1)) == settings().max_losses + 1
    assert ended(parent)[:2] == ended(child)[:2] == ("FAILED", "engine")


def test_a_process_that_dies_before_it_has_claimed_is_counted_once_each_time(
    probe: Probe, chain: Chain, statuses: Statuses, rows: Rows
) -> None:
    run_id = chain(probe(passes))
    state = process()
    for number in range(settings().max_losses):
        for _ in range(3):
            count_death(state, ExecutionKey(run_id, 0, 1), f"here/{number}")
        assert rows("SELECT losses FROM node_executions") == [number + 1]
    count_death(state, ExecutionKey(run_id, 0, 1), "here/last")
    assert statuses(run_id) == {"0/1": "FAILED system"}


def test_a_process_that_dies_after_it_has_settled_costs_nothing(probe: Probe, chain: Chain, rows: Rows) -> None:
    """A retry that is not due, a node execution that has ended, one that is another's: none of them is lost."""
    run_id = chain(probe(breaks), settings={"retry": {"max_failures": 9, "base": 60, "on": ["block"]}})
    execute(str(run_id), 0, 1)
    holder = rows("SELECT holder FROM node_executions")[0]
    for by in (holder, "somebody/else"):
        count_death(process(), ExecutionKey(run_id, 0, 1), by)
    assert rows("SELECT status, losses, failures FROM node_executions") == [("QUEUED", 0, 1)]


def test_that_postgresql_is_away_is_nobodys_fault(
    probe: Probe, chain: Chain, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = chain(probe(passes))

    def away(*_: Any) -> Any:
        raise Unavailable

    monkeypatch.setattr("agentflow.worker.process.plan_of", away)
    for _ in range(10):
        with pytest.raises(Retry):
            execute(str(run_id), 0, 1)
    assert rows("SELECT losses FROM node_executions") == [0]


def test_a_retry_of_a_run_that_was_given_up_begins_anew(
    probe: Probe, chain: Chain, work: Callable[[UUID], None], ended: Any, api: FlaskClient, monkeypatch: Any
) -> None:
    run_id = chain(probe(passes), probe(passes))
    with monkeypatch.context() as patch:
        patch.setattr("agentflow.worker.process.plan_of", breaks)
        tried(lambda: execute(str(run_id), 0, 1))
    assert api.post(f"/api/v1/runs/{run_id}/retry").status_code in (200, 202)
    work(run_id)
    assert ended(run_id)[0] == "COMPLETED"


def test_one_run_that_cannot_be_read_keeps_nobody_else_in_line(
    probe: Probe, chain: Chain, rows: Rows, recovery: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "max_active_runs", 1)
    first, second, third = (chain(probe(passes)) for _ in range(3))
    monkeypatch.setattr("agentflow.services.admission.plan_of_run", breaks)
    carry_out(cancellation.stop_tree(first, "CANCELLED", "enough"))  # type: ignore[arg-type]
    finalise_run(str(first))
    recovery.admit_runs()
    admitted = rows("SELECT id FROM runs WHERE admitted_at IS NOT NULL AND ended_at IS NULL")
    assert admitted == [second], "admitted, though nobody could ring for it; recovery does that"
    assert third not in admitted
