"""The worker's main process renews its children's leases, tells them to stop, and gives back what they leave behind."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import steps
from celery.worker import state as celery_state
from probes import Chain, Probe, Rows, Statuses
from steps import execute

from agentflow.blocks.base import Context
from agentflow.clock import monotonic
from agentflow.dispatch.publish import EXECUTE, FINALISE
from agentflow.engine.statuses import RunStatus
from agentflow.errors import Unavailable
from agentflow.settings import Settings
from agentflow.storage import runs
from agentflow.storage.connect import session
from agentflow.worker import keeper as module
from agentflow.worker import upkeep
from agentflow.worker.keeper import Keeper
from agentflow.worker.process import holder

Eventually = Callable[..., None]

DEAD = 4_194_305  # no process has this id


@pytest.fixture
def keeper(environment: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    """A keeper at work."""
    monkeypatch.setattr(module, "TICK", 0.02)
    made = Keeper()
    made.start()
    yield made
    made.stop()
    assert not any(thread.is_alive() for thread in made._threads)


def takes(inputs: Any, context: Context) -> Any:
    yield "value", 1


@pytest.fixture
def run_id(probe: Probe, chain: Chain) -> UUID:
    return chain(probe(takes))


def hold(run_id: UUID, pid: int, lease: float = 60) -> None:
    """The child `pid` of this worker claims 0/1."""
    steps.hold(run_id, holder(pid), lease=lease)


class Executing(SimpleNamespace):
    """What Celery knows of a message that a child is at."""

    __hash__ = object.__hash__


@pytest.fixture
def executing(eventually: Eventually) -> Iterator[Callable[..., None]]:
    """`executing(run, pid)`: Celery says that the child is at 0/1 of the run."""

    kept: list[Executing] = []  # Celery's set holds them weakly

    def say(run_id: UUID, pid: int | None, task: str = EXECUTE, kill_after: float | None = None) -> Executing:
        args = [str(run_id), 0, 1] if task == EXECUTE else [str(run_id)]
        message = Executing(type=task, args=args, worker_pid=pid, id=str(len(kept)), kill_after=kill_after)
        kept.append(message)
        celery_state.active_requests.add(message)
        return message

    yield say
    kept.clear()
    eventually(lambda: not len(celery_state.active_requests))  # the keeper may be looking at them just now


@pytest.fixture
def child() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """`child(code)` starts a process that runs this Python code, after which it sleeps."""
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str = "") -> subprocess.Popen[bytes]:
        program = f"import signal, sys, time; {code}; print('ready', flush=True); time.sleep(60)"
        made = subprocess.Popen([sys.executable, "-c", program.replace("; ;", ";")], stdout=subprocess.PIPE)
        started.append(made)
        assert made.stdout is not None
        assert made.stdout.readline() == b"ready\n"
        return made

    yield start
    for made in started:
        made.kill()
        made.wait()
        assert made.stdout is not None
        made.stdout.close()


def lease_left(rows: Rows) -> float:
    (left,) = rows("SELECT extract(epoch FROM lease_until - agentflow_now())::float8 FROM node_executions")
    return float(left)


def test_what_a_dead_child_held_is_returned(
    keeper: Keeper, run_id: UUID, statuses: Statuses, eventually: Eventually
) -> None:
    hold(run_id, DEAD)
    keeper.return_lease([str(run_id), 0, 1], DEAD, timed_out=False)
    eventually(lambda: statuses(run_id) == {"0/1": "QUEUED"})


def test_what_a_child_overran_ends(keeper: Keeper, run_id: UUID, statuses: Statuses, eventually: Eventually) -> None:
    hold(run_id, DEAD)
    keeper.return_lease([str(run_id), 0, 1], DEAD, timed_out=True)
    eventually(lambda: statuses(run_id) == {"0/1": "FAILED timeout"})


def test_a_message_that_no_child_took_gives_nothing_back(
    keeper: Keeper, run_id: UUID, statuses: Statuses, eventually: Eventually
) -> None:
    hold(run_id, DEAD)
    keeper.return_lease([str(run_id), 0, 1], None, timed_out=False)
    keeper.return_lease([str(run_id), 0, 1], DEAD + 1, timed_out=False)
    eventually(keeper._returned.empty)
    assert statuses(run_id) == {"0/1": "RUNNING"}


def test_something_that_cannot_be_returned_does_not_keep_the_rest(
    keeper: Keeper, run_id: UUID, statuses: Statuses, eventually: Eventually
) -> None:
    hold(run_id, DEAD)
    keeper._returned.put(module.Returned(("no uuid", 0, 1), holder(DEAD), False))  # type: ignore[arg-type]
    keeper.return_lease([str(run_id), 0, 1], DEAD, timed_out=False)
    eventually(lambda: statuses(run_id) == {"0/1": "QUEUED"})


@pytest.fixture
def broken(keeper: Keeper, rows: Rows, eventually: Eventually) -> None:
    """The keeper's connections have broken, a few times: at one moment or another of a pass."""
    ends = (
        "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity "
        "WHERE application_name = 'agentflow hot' AND query LIKE '%lock%'"
    )
    for _ in range(4):
        eventually(lambda: rows(ends))


def test_what_is_returned_after_connections_broke_is_taken(
    broken: None, keeper: Keeper, run_id: UUID, statuses: Statuses, eventually: Eventually
) -> None:
    hold(run_id, DEAD)
    keeper.return_lease([str(run_id), 0, 1], DEAD, timed_out=False)
    eventually(lambda: statuses(run_id) == {"0/1": "QUEUED"})


def test_recovery_goes_on_after_connections_broke(
    broken: None, run_id: UUID, rows: Rows, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = [replace(chore, every=min(chore.every, 0.05)) for chore in upkeep.CHORES]
    monkeypatch.setattr(upkeep, "CHORES", often)
    execute(run_id, 0, 1)
    eventually(lambda: rows("SELECT status FROM runs") == ["COMPLETED"])


def test_the_lease_of_what_a_child_is_at_is_renewed(
    keeper: Keeper, run_id: UUID, rows: Rows, executing: Callable[..., None], eventually: Eventually
) -> None:
    hold(run_id, DEAD, lease=2)
    executing(run_id, DEAD)
    executing(run_id, None)  # not given to a child yet
    executing(run_id, DEAD, FINALISE)
    eventually(lambda: lease_left(rows) > 10)


def test_the_lease_of_another_worker_is_not(
    keeper: Keeper, run_id: UUID, rows: Rows, executing: Callable[..., None], eventually: Eventually
) -> None:
    hold(run_id, DEAD, lease=5)
    executing(run_id, DEAD + 1)
    hot = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'agentflow hot' AND query LIKE '%renew%'"
    eventually(lambda: rows(hot) == [1])
    assert lease_left(rows) < 5


def stop(run_id: UUID) -> None:
    with session() as opened:
        runs.stop(opened, run_id, RunStatus.CANCELLED, "user")


def test_a_child_at_a_stopped_run_is_told(
    keeper: Keeper,
    run_id: UUID,
    executing: Callable[..., None],
    child: Callable[..., subprocess.Popen[bytes]],
    eventually: Eventually,
) -> None:
    at_it = child("signal.signal(signal.SIGUSR2, lambda *_: sys.exit(7))")
    hold(run_id, at_it.pid)
    executing(run_id, at_it.pid)
    stop(run_id)
    eventually(lambda: at_it.poll() is not None)
    assert at_it.returncode == 7


def test_a_child_that_does_not_let_go_is_killed(
    keeper: Keeper,
    run_id: UUID,
    executing: Callable[..., None],
    child: Callable[..., subprocess.Popen[bytes]],
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "KILL_STOPPED_AFTER", 0.3)
    at_it = child("signal.signal(signal.SIGUSR2, signal.SIG_IGN)")
    hold(run_id, at_it.pid)
    executing(run_id, at_it.pid)
    stop(run_id)
    eventually(lambda: at_it.poll() is not None)
    assert at_it.returncode == -signal.SIGKILL


def test_a_child_that_is_at_a_block_long_after_its_timeout_is_killed(
    keeper: Keeper,
    run_id: UUID,
    executing: Callable[..., Executing],
    child: Callable[..., subprocess.Popen[bytes]],
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "KILL_GRACE", 0.0)
    at_it, in_time = child(), child()
    hold(run_id, at_it.pid)
    in_time_message = executing(run_id, in_time.pid, kill_after=60.0)
    message = executing(run_id, at_it.pid, kill_after=0.3)
    eventually(lambda: at_it.poll() is not None)
    assert at_it.returncode == -signal.SIGKILL
    assert message.killed_for == "overran"
    assert in_time.poll() is None
    assert not hasattr(in_time_message, "killed_for")


def test_nobody_is_killed_for_the_time_that_postgresql_was_away(
    keeper: Keeper,
    run_id: UUID,
    executing: Callable[..., Executing],
    child: Callable[..., subprocess.Popen[bytes]],
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "KILL_GRACE", 0.5)
    away = threading.Event()
    renew = keeper._hot.renew

    def unless_away(*values: Any) -> Any:
        if away.is_set():
            raise Unavailable
        return renew(*values)

    monkeypatch.setattr(keeper._hot, "renew", unless_away)
    at_it = child()
    hold(run_id, at_it.pid)
    away.set()
    executing(run_id, at_it.pid, kill_after=0.1)
    eventually(lambda: keeper._steady_since > monotonic() - 0.1)
    began = monotonic()
    eventually(lambda: monotonic() > began + 1)
    assert at_it.poll() is None
    back = monotonic()
    away.clear()
    eventually(lambda: at_it.poll() is not None)
    assert monotonic() - back > 0.4


def test_what_a_worker_remembers_is_of_what_its_children_are_at(
    keeper: Keeper, run_id: UUID, executing: Callable[..., Executing], eventually: Eventually
) -> None:
    hold(run_id, DEAD)
    message = executing(run_id, DEAD, kill_after=60.0)
    eventually(lambda: keeper._began)
    celery_state.active_requests.discard(message)
    eventually(lambda: not keeper._began)


def test_a_child_that_is_gone_already_is_no_matter(
    keeper: Keeper, run_id: UUID, rows: Rows, executing: Callable[..., None], eventually: Eventually
) -> None:
    hold(run_id, DEAD, lease=2)
    executing(run_id, DEAD)
    stop(run_id)
    eventually(lambda: lease_left(rows) > 10)
    eventually(lambda: keeper._told)
    assert all(thread.is_alive() for thread in keeper._threads)
