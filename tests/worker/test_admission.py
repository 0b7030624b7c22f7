"""Of each owner so many runs are active and no more, whichever way they come in; the others start as these end."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from probes import Chain, Probe, Rows, Statuses, Submit, Yields, owner_of, passes
from steps import execute, wake_due

from agentflow.blocks.base import Context
from agentflow.engine.waits import ChildRun, Timer
from agentflow.errors import AlreadyEnded, BadInput
from agentflow.services import admission, graphs, steering, submissions
from agentflow.services.submissions import Wanted
from agentflow.services.transaction import carry_out, transaction
from agentflow.settings import settings
from agentflow.storage.tables import ACTIVE
from agentflow.worker.finalise import finalise
from agentflow.worker.process import process
from agentflow.worker.upkeep import Upkeep

pytestmark = pytest.mark.timeout(60, method="thread")

_ACTIVE = "SELECT count(*) FROM runs WHERE ended_at IS NULL AND admitted_at IS NOT NULL AND parent_run_id IS NULL"


@pytest.fixture(autouse=True)
def one_at_a_time(environment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings(), "max_active_runs", 1)


def fails(inputs: Any, context: Context) -> Yields:
    raise BadInput("no")
    yield


@pytest.fixture
def failed(probe: Probe, chain: Chain) -> Callable[[], UUID]:
    """A run that has failed."""
    block = probe(fails)

    def make() -> UUID:
        run_id = chain(block)
        execute(run_id, 0, 1)
        assert finalise(run_id)
        return run_id

    return make


def test_a_run_that_is_retried_waits_for_its_place(
    failed: Callable[[], UUID], probe: Probe, chain: Chain, statuses: Statuses, rows: Rows
) -> None:
    first, second = failed(), failed()
    now = chain(probe(passes))
    owner = owner_of(rows, first)
    assert [carry_out(steering.retry(owner, one)).status for one in (first, second)] == ["QUEUED", "QUEUED"]
    for one in (first, second):
        execute(one, 0, 1)
        assert statuses(one) == {"0/1": "QUEUED"}
        assert not finalise(one)
    for ends, goes_on in ((now, first), (first, second)):
        execute(ends, 0, 1)
        assert finalise(ends)
        assert rows("SELECT status FROM runs WHERE id = :run", run=goes_on) == ["RUNNING"]
        assert rows(_ACTIVE) == [1]


def test_a_retry_that_finds_a_place_goes_on_at_once(failed: Callable[[], UUID], statuses: Statuses, rows: Rows) -> None:
    run_id = failed()
    assert carry_out(steering.retry(owner_of(rows, run_id), run_id)).status == "RUNNING"
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "FAILED user"}


def test_a_timer_of_a_run_that_waits_for_its_place_starts_nothing(
    probe: Probe, chain: Chain, submit: Submit, statuses: Statuses, rows: Rows
) -> None:
    def waits(inputs: Any, context: Context) -> Yields:
        if context.resumed is None:
            yield Timer(3600)
        yield "value", 1

    nodes = [{"id": name, "block_id": probe(block)} for name, block in (("waits", waits), ("fails", fails))]
    stopped = submit({"name": "both", "nodes": nodes, "links": [], "settings": {"on_node_failure": "stop"}})
    for node in (0, 1):
        execute(stopped, node, 1)
    assert finalise(stopped)
    now = chain(probe(passes))
    carry_out(steering.retry(owner_of(rows, stopped), stopped))
    assert statuses(stopped) == {"0/1": "WAITING", "1/1": "QUEUED"}
    rows("UPDATE waits SET until = agentflow_now() RETURNING 1")
    assert wake_due(stopped, 0, 1)
    execute(stopped, 0, 1)
    assert statuses(stopped) == {"0/1": "QUEUED", "1/1": "QUEUED"}
    execute(now, 0, 1)
    assert finalise(now)
    for node in (0, 1):
        execute(stopped, node, 1)
    assert statuses(stopped) == {"0/1": "COMPLETED", "1/1": "FAILED user"}


def test_child_runs_are_retried_with_the_run_that_they_belong_to(
    failed: Callable[[], UUID], probe: Probe, chain: Chain, statuses: Statuses, rows: Rows
) -> None:
    owner = owner_of(rows, failed())
    document = {"name": "child", "nodes": [{"id": "x", "block_id": probe(fails)}], "links": []}
    with transaction() as session:
        graph_id = str(graphs.create(session, owner, document).id)

    def calls(inputs: Any, context: Context) -> Yields:
        if context.resumed is None:
            yield ChildRun(graph_id)
        else:
            raise BadInput("the child failed")

    root = chain(probe(calls))
    execute(root, 0, 1)
    (child,) = rows("SELECT id FROM runs WHERE parent_run_id = :run", run=root)
    execute(child, 0, 1)
    assert finalise(child)
    execute(root, 0, 1)
    assert finalise(root)
    now = chain(probe(passes))
    assert carry_out(steering.retry(owner, root)).status == "QUEUED"
    Upkeep(process()).run_pass()
    execute(child, 0, 1)
    assert statuses(child) == {"0/1": "QUEUED"}, "its root has no place"
    execute(now, 0, 1)
    assert finalise(now)
    execute(child, 0, 1)
    assert statuses(child) == {"0/1": "FAILED user"}


def test_submissions_at_the_same_moment_do_not_overrun_the_limit(
    submit: Submit, echo: dict[str, Any], rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = owner_of(rows, submit())
    monkeypatch.setattr(settings(), "max_active_runs", 3)
    together = threading.Barrier(12)
    errors: list[BaseException] = []

    def send() -> None:
        try:
            together.wait(20)
            with transaction() as session:
                submissions.submit(session, owner, echo, Wanted(inputs={"word": "hi"}))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=send) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert rows("SELECT count(*) FROM runs") == [13]
    assert rows(_ACTIVE) == [3]


def test_retries_and_submissions_at_the_same_moment_take_one_place(
    failed: Callable[[], UUID], echo: dict[str, Any], rows: Rows
) -> None:
    runs = [failed() for _ in range(5)]
    owner = owner_of(rows, runs[0])
    together = threading.Barrier(10)
    errors: list[BaseException] = []

    def go(what: Callable[[], object]) -> None:
        try:
            together.wait(20)
            what()
        except BaseException as error:
            errors.append(error)

    def send() -> None:
        with transaction() as session:
            submissions.submit(session, owner, echo, Wanted(inputs={"word": "hi"}))

    doing: list[Callable[[], object]] = [send] * 5
    doing += [lambda run_id=run_id: carry_out(steering.retry(owner, run_id)) for run_id in runs]
    threads = [threading.Thread(target=go, args=(one,)) for one in doing]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert rows(_ACTIVE) == [1]


@given(
    most=st.integers(1, 3),
    done=st.lists(
        st.tuples(st.sampled_from(["submit", "pause", "resume", "work", "look"]), st.integers(0, 9)), max_size=40
    ),
)
@hypothesis_settings(max_examples=40, suppress_health_check=list(HealthCheck), deadline=None)
def test_whatever_is_paused_and_resumed_no_more_are_active_than_may_be(
    probe: Probe, chain: Chain, rows: Rows, monkeypatch: pytest.MonkeyPatch, most: int, done: list[tuple[str, int]]
) -> None:
    rows("DELETE FROM node_executions RETURNING 1")
    rows("DELETE FROM runs RETURNING 1")
    monkeypatch.setattr(settings(), "max_active_runs", most)
    block = probe(passes)
    made = [chain(block, block)]
    owner = owner_of(rows, made[0])

    def work(run_id: UUID) -> None:
        execute(run_id, 0, 1)
        execute(run_id, 1, 1)
        finalise(run_id)

    def do(what: str, run_id: UUID) -> None:
        match what:
            case "submit":
                made.append(chain(block, block))
            case "pause":
                with suppress(AlreadyEnded):
                    carry_out(steering.pause(owner, run_id))
            case "resume":
                with suppress(AlreadyEnded):
                    carry_out(steering.resume(owner, run_id))
            case "work":
                execute(run_id, 0, 1)
            case "look":
                carry_out(admission.admit(owner))

    for what, which in done:
        do(what, made[which % len(made)])
        assert rows(f"SELECT count(*) FROM runs WHERE {ACTIVE}")[0] <= most, what
    for run_id in made:
        do("resume", run_id)
    for _ in made:
        carry_out(admission.admit(owner))
        assert rows(f"SELECT count(*) FROM runs WHERE {ACTIVE}")[0] <= most
        for run_id in made:
            work(run_id)
    assert set(rows("SELECT status FROM runs")) == {"COMPLETED"}
