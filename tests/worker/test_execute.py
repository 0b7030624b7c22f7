"""The path of a node execution through a worker: whatever a block does, it ends as its row says, and only once."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from probes import Chain, Outputs, Probe, Rows, Statuses, Yields
from pydantic import field_validator
from steps import claim, execute

from agentflow.blocks import registry
from agentflow.blocks.base import BlockInput, Context
from agentflow.blocks.registry import Registry
from agentflow.engine.execution import ExecutionKey, Lease
from agentflow.engine.statuses import RunStatus
from agentflow.engine.waits import ChildRun
from agentflow.errors import BadInput, BlockBug, SystemFault, Transient, Unavailable
from agentflow.ids import new_id, new_token
from agentflow.logs import FieldsFormatter
from agentflow.settings import Settings, settings
from agentflow.storage import runs
from agentflow.storage.connect import session
from agentflow.worker import attempt as attempt_module
from agentflow.worker import execute as module
from agentflow.worker.execute import perform, settle
from agentflow.worker.process import process

# pytest-timeout's other method is SIGALRM, which blocks are stopped by.
pytestmark = pytest.mark.timeout(60, method="thread")


def takes(inputs: Any, context: Context) -> Yields:
    yield "value", inputs.value


def test_a_node_execution_runs_once_however_often_its_message_comes(
    probe: Probe, chain: Chain, statuses: Statuses, outputs: Outputs
) -> None:
    ran: list[int] = []

    def run(inputs: Any, context: Context) -> Yields:
        ran.append(context.attempt)
        yield "value", 7

    run_id = chain(probe(run), probe(takes))
    for _ in range(3):
        execute(run_id, 0, 1)
    assert ran == [1]
    assert statuses(run_id) == {"0/1": "COMPLETED", "1/1": "QUEUED"}
    execute(run_id, 1, 1)
    assert outputs(run_id, 1) == [("value", 7)]


def test_a_message_about_nothing_is_dropped(probe: Probe, chain: Chain, statuses: Statuses) -> None:
    run_id = chain(probe(takes))
    for unknown in ((new_id(), 0, 1), (run_id, 1, 1), (run_id, -1, 1), (run_id, 0, 2)):
        execute(*unknown)
    assert statuses(run_id) == {"0/1": "QUEUED"}


def test_a_block_knows_where_it_runs(probe: Probe, chain: Chain, rows: Rows) -> None:
    seen: list[Context] = []

    def run(inputs: Any, context: Context) -> Yields:
        seen.append(context)
        if context.attempt == 1:
            raise Transient("again")
        yield "value", 1

    run_id = chain(probe(run), settings={"retry": {"max_failures": 1, "base": 0}})
    execute(run_id, 0, 1)
    execute(run_id, 0, 1)
    assert [(c.run_id, c.node_id, c.index, c.attempt) for c in seen] == [(run_id, "n0", 1, 1), (run_id, "n0", 1, 2)]
    assert seen[0].idempotency_key == seen[1].idempotency_key
    assert not seen[0].cancelled()


def test_a_line_that_a_block_logs_has_its_own_fields_too(probe: Probe, chain: Chain, caplog: Any) -> None:
    def run(inputs: Any, context: Context) -> Yields:
        context.logger.warning("asked %s", "once", extra={"address": "https://a.test", "index": 7, "tries": 2})
        try:
            raise LookupError("no place")
        except LookupError:
            context.logger.exception("not found")
        yield "value", 1

    execute(chain(probe(run)), 0, 1)

    asked, missing = (record for record in caplog.records if record.name.startswith("agentflow.blocks."))
    line = FieldsFormatter("%(message)s").format(asked)
    assert line.startswith("asked once ")
    assert {"address=https://a.test", "tries=2", "index=1", "attempt=1", "node=n0"} < set(line.split())
    lines = FieldsFormatter("%(message)s").format(missing).splitlines()
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "LookupError: no place"


# ── What blocks do wrong ─────────────────────────────────────────────────────────────────────────────────────────────


def undeclared(inputs: Any, context: Context) -> Yields:
    yield "elsewhere", 1


def of_another_type(inputs: Any, context: Context) -> Yields:
    yield "number", "5"


def no_json(inputs: Any, context: Context) -> Yields:
    yield "value", {1: "one"}


def no_pair(inputs: Any, context: Context) -> Any:
    yield "value"


def no_text(inputs: Any, context: Context) -> Any:
    yield 1, 2


def no_generator(inputs: Any, context: Context) -> Any:
    return [("value", 1)]


def none(inputs: Any, context: Context) -> Any:
    return None


async def coroutine(inputs: Any, context: Context) -> Any:
    return None


def leaves(inputs: Any, context: Context) -> Yields:
    raise SystemExit(3)
    yield


def interrupts_itself(inputs: Any, context: Context) -> Yields:
    context.stop_if_cancelled()
    from agentflow.errors import Interrupted

    raise Interrupted
    yield


def too_much_memory(inputs: Any, context: Context) -> Yields:
    raise MemoryError
    yield


def unspeakable(inputs: Any, context: Context) -> Yields:
    raise ValueError("NUL \x00 and \udcff")
    yield


class _LeavesWhenAsked(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


def leaves_when_asked(inputs: Any, context: Context) -> Yields:
    raise _LeavesWhenAsked
    yield


def counts_by_names_nobody_can_store(inputs: Any, context: Context) -> Yields:
    context.report(**{"\udcff": 1})
    yield "value", 1


def counts_too_many_things(inputs: Any, context: Context) -> Yields:
    context.report(**{f"count_{number}": 1 for number in range(101)})
    yield "value", 1


def counts_too_much(inputs: Any, context: Context) -> Yields:
    context.report(cost=1e300)
    yield "value", 1


def waits_for_nonsense(inputs: Any, context: Context) -> Any:
    yield ChildRun(UUID(int=1), 1, 5)  # type: ignore[arg-type]


def reports(inputs: Any, context: Context) -> Yields:
    yield "error", "it is \x00 wrong"
    pytest.fail("a block ends where it yields an error")


def reports_at_length(inputs: Any, context: Context) -> Yields:
    yield "error", {"much": "x" * 20_000}


def bad_input(inputs: Any, context: Context) -> Yields:
    raise BadInput("not so")
    yield


def transient(inputs: Any, context: Context) -> Yields:
    raise Transient("503")
    yield


def system(inputs: Any, context: Context) -> Yields:
    raise SystemFault("no disk")
    yield


def first_thing(inputs: Any, context: Context) -> Any:
    raise BlockBug("before there is a generator")


async def async_failure(inputs: Any, context: Context) -> AsyncIterator[tuple[str, Any]]:
    await asyncio.sleep(0)
    raise RuntimeError("async")
    yield


@pytest.mark.parametrize(
    ("run", "reason", "message"),
    [
        (undeclared, "block", "no output pin 'elsewhere'"),
        (of_another_type, "block", "wrong value on its output pin 'number'"),
        (no_json, "block", "not a JSON value"),
        (no_pair, "block", "yielded str, not a pair"),
        (no_text, "block", "yielded tuple, not a pair"),
        (no_generator, "block", "returned list, not a generator"),
        (none, "block", "returned NoneType, not a generator"),
        (coroutine, "block", "returned coroutine, not a generator"),
        (leaves, "block", "SystemExit: 3"),
        (interrupts_itself, "block", "interrupted itself"),
        (too_much_memory, "block", "more memory"),
        (unspeakable, "block", "ValueError: NUL \ufffd and \ufffd"),
        (leaves_when_asked, "block", "_LeavesWhenAsked: (its text cannot be had: SystemExit)"),
        (counts_by_names_nobody_can_store, "block", "letters, digits and _"),
        (counts_too_many_things, "block", "more than 100 counts"),
        (counts_too_much, "block", "or one above"),
        (waits_for_nonsense, "block", "AttributeError"),
        (reports, "block", "it is \ufffd wrong"),
        (reports_at_length, "block", "'much'"),
        (bad_input, "user", "not so"),
        (transient, "transient", "503"),
        (system, "system", "no disk"),
        (first_thing, "block", "before there is a generator"),
        (async_failure, "block", "RuntimeError: async"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_a_block_does_wrong_ends_its_node_execution_and_nothing_else(
    probe: Probe,
    chain: Chain,
    statuses: Statuses,
    outputs: Outputs,
    rows: Rows,
    run: Callable[..., Any],
    reason: str,
    message: str,
) -> None:
    run_id = chain(probe(run), probe(takes), pin="error")
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": f"FAILED {reason}", "1/1": "QUEUED"}
    (told,) = rows("SELECT error FROM node_executions WHERE run_id = :run AND node = 0", run=run_id)
    assert message in told
    assert outputs(run_id) == [("error", told)]
    execute(run_id, 1, 1)
    assert outputs(run_id, 1) == [("value", told)], "the error pin carries the message on"


def test_what_was_yielded_before_a_failure_stays_delivered(
    probe: Probe, chain: Chain, statuses: Statuses, outputs: Outputs
) -> None:
    def run(inputs: Any, context: Context) -> Yields:
        yield "value", 1
        yield "value", 2
        raise RuntimeError("then")

    run_id = chain(probe(run), probe(takes))
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "FAILED block", "1/1": "QUEUED", "1/2": "QUEUED"}
    assert outputs(run_id) == [("value", 1), ("value", 2), ("error", "RuntimeError: then")]


def gives_nothing(inputs: Any, context: Context) -> Yields:
    yield "value", None


def test_inputs_that_do_not_fit_are_the_users_mistake(probe: Probe, chain: Chain, statuses: Statuses) -> None:
    class Input(BlockInput):
        value: int

    run_id = chain(probe(gives_nothing), probe(takes, Input=Input))
    execute(run_id, 0, 1)
    execute(run_id, 1, 1)
    assert statuses(run_id)["1/1"] == "FAILED user"


@pytest.mark.parametrize("error", [KeyError("its own"), SystemExit(1)])
def test_a_blocks_own_validator_that_breaks_is_the_blocks_bug(
    probe: Probe, chain: Chain, statuses: Statuses, error: BaseException
) -> None:
    class Input(BlockInput):
        value: Any = None

        @field_validator("value")
        @classmethod
        def _break(cls, value: Any) -> Any:
            raise error

    run_id = chain(probe(takes, Input=Input), value=1)
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "FAILED block"}


def test_a_block_that_is_not_installed_here_fails_its_node_only(
    probe: Probe, chain: Chain, statuses: Statuses, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = chain(probe(takes))
    without = Registry(block for block in registry.every() if not block.name.startswith("Probe"))
    monkeypatch.setattr(registry, "_registry", lambda: without)
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "FAILED user"}


# ── Limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("count", "status"), [(3, "COMPLETED"), (4, "FAILED block")])
def test_so_many_outputs_and_no_more(
    probe: Probe,
    chain: Chain,
    statuses: Statuses,
    outputs: Outputs,
    environment: Settings,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    status: str,
) -> None:
    monkeypatch.setattr(environment, "max_outputs", 3)

    def run(inputs: Any, context: Context) -> Yields:
        for number in range(count):
            yield "number", number

    run_id = chain(probe(run))
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": status}
    assert outputs(run_id)[:3] == [("number", 0), ("number", 1), ("number", 2)]


@pytest.mark.parametrize(
    ("value", "status"),
    [("x" * 98, "COMPLETED"), ("x" * 99, "FAILED block"), ("é" * 49, "COMPLETED"), ("é" * 50, "FAILED block")],
)
def test_a_value_of_so_many_bytes_and_no_more(
    probe: Probe,
    chain: Chain,
    statuses: Statuses,
    environment: Settings,
    monkeypatch: pytest.MonkeyPatch,
    value: str,
    status: str,
) -> None:
    monkeypatch.setattr(environment, "max_value_bytes", 100)

    def run(inputs: Any, context: Context) -> Yields:
        yield "value", value

    run_id = chain(probe(run))
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": status}


def test_many_values_are_stored_in_bounded_batches_as_they_come(
    probe: Probe, chain: Chain, outputs: Outputs, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_module, "_BATCH_OUTPUTS", 10)

    def run(inputs: Any, context: Context) -> Yields:
        for number in range(25):
            yield "number", number

    run_id = chain(probe(run))
    execute(run_id, 0, 1)
    assert outputs(run_id) == [("number", number) for number in range(25)]
    kept = rows("SELECT kind, first, count FROM events WHERE run_id = :run AND node = 0 ORDER BY id", run=run_id)
    assert kept == [("claimed", None, None), ("flushed", 0, 10), ("flushed", 10, 10), ("settled", 20, 5)]


# ── Again ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def lose(run_id: UUID, token: UUID) -> None:
    """What happens when the worker that holds this lease on 0/1 dies."""
    heir = Lease(new_token(), "test", 60)
    loss = process().hot.return_lease(ExecutionKey(run_id, 0, 1), token, heir, expired=False, bearable=3)
    assert loss.verdict == "queued"


def test_what_an_attempt_got_stored_is_not_stored_again_by_the_next(
    probe: Probe, chain: Chain, statuses: Statuses, outputs: Outputs
) -> None:
    def run(inputs: Any, context: Context) -> Yields:
        for number in range(4):
            yield "number", number * context.attempt

    run_id = chain(probe(run), probe(takes), pin="number")
    first = claim(process(), run_id, 0, 1)
    assert first is not None
    block, _ = module.load(first)
    first.emit(block, "number", 0)
    first.emit(block, "number", 1)
    first.flush()
    lose(run_id, first.lease.token)
    execute(run_id, 0, 1)
    assert outputs(run_id) == [("number", number) for number in (0, 1, 4, 6)]
    assert statuses(run_id) == {"0/1": "COMPLETED", **{f"1/{idx}": "QUEUED" for idx in (1, 2, 3, 4)}}

    first.emit(block, "number", 2)
    first.flush()
    settle(first, perform(first))
    assert len(outputs(run_id)) == 4, "a late worker stores nothing"


def test_a_failed_attempt_is_made_again_when_it_is_due(
    probe: Probe, chain: Chain, statuses: Statuses, outputs: Outputs, rows: Rows
) -> None:
    def run(inputs: Any, context: Context) -> Yields:
        yield "number", 1
        if context.attempt < 3:
            raise Transient("503")
        yield "number", 2

    run_id = chain(probe(run), settings={"retry": {"max_failures": 2, "base": 3600, "jitter": False}})
    for wait in (3600, 300):
        execute(run_id, 0, 1)
        execute(run_id, 0, 1)  # not due: nothing happens
        assert statuses(run_id) == {"0/1": "QUEUED transient"}
        assert outputs(run_id) == [("number", 1)]
        assert wait >= 300
        rows("UPDATE node_executions SET due_at = agentflow_now() WHERE run_id = :run RETURNING 1", run=run_id)
    execute(run_id, 0, 1)
    assert outputs(run_id) == [("number", 1), ("number", 2)]
    counted = rows("SELECT status, attempt, failures, losses FROM node_executions WHERE run_id = :run", run=run_id)
    assert counted == [("COMPLETED", 3, 2, 0)]


def test_an_atomic_block_gets_nothing_stored_before_it_has_ended_well(
    probe: Probe, chain: Chain, statuses: Statuses, outputs: Outputs, monkeypatch: pytest.MonkeyPatch, rows: Rows
) -> None:
    monkeypatch.setattr(attempt_module, "_BATCH_OUTPUTS", 2)

    def run(inputs: Any, context: Context) -> Yields:
        for number in range(5):
            yield "number", number * context.attempt
        assert outputs(context.run_id) == []
        if context.attempt < 3:
            raise Transient("503")

    run_id = chain(probe(run, atomic=True), settings={"retry": {"max_failures": 2, "base": 0}})
    execute(run_id, 0, 1)
    execute(run_id, 0, 1)
    assert outputs(run_id) == []
    execute(run_id, 0, 1)
    assert outputs(run_id) == [("number", number) for number in (0, 3, 6, 9, 12)]


def test_an_atomic_block_that_fails_leaves_only_its_error(
    probe: Probe, chain: Chain, statuses: Statuses, outputs: Outputs
) -> None:
    def run(inputs: Any, context: Context) -> Yields:
        yield "number", 1
        raise RuntimeError("half done")

    run_id = chain(probe(run, atomic=True), probe(takes), pin="number")
    execute(run_id, 0, 1)
    assert outputs(run_id) == [("error", "RuntimeError: half done")]
    assert statuses(run_id) == {"0/1": "FAILED block"}


# ── Async ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_async_blocks_to_its_end_and_cleans_up(probe: Probe, chain: Chain, outputs: Outputs) -> None:
    ended: list[str] = []

    async def run(inputs: Any, context: Context) -> AsyncIterator[tuple[str, Any]]:
        try:
            for number in range(3):
                await asyncio.sleep(0)
                yield "number", number
        finally:
            await asyncio.sleep(0)
            ended.append("yes")

    run_id = chain(probe(run))
    execute(run_id, 0, 1)
    assert outputs(run_id) == [("number", 0), ("number", 1), ("number", 2)]
    assert ended == ["yes"]


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_block_whose_value_is_refused_is_closed(probe: Probe, chain: Chain, kind: str) -> None:
    closed: list[str] = []

    def plain(inputs: Any, context: Context) -> Yields:
        try:
            yield "elsewhere", 1
        finally:
            closed.append("yes")

    async def asynchronous(inputs: Any, context: Context) -> AsyncIterator[tuple[str, Any]]:
        try:
            yield "elsewhere", 1
        finally:
            await asyncio.sleep(0)
            closed.append("yes")

    run_id = chain(probe(plain if kind == "plain" else asynchronous))
    execute(run_id, 0, 1)
    assert closed == ["yes"]


# ── Stopped, late, away ──────────────────────────────────────────────────────────────────────────────────────────────


def stop(run_id: UUID) -> None:
    with session() as opened:
        runs.stop(opened, run_id, RunStatus.CANCELLED, "user")


def test_what_a_block_yields_after_its_run_was_stopped_is_not_stored(
    probe: Probe, chain: Chain, statuses: Statuses, outputs: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_module, "_BATCH_OUTPUTS", 1)
    steps: list[int] = []

    def run(inputs: Any, context: Context) -> Yields:
        for number in range(5):
            steps.append(number)
            if number == 2:
                stop(context.run_id)
            yield "number", number

    run_id = chain(probe(run), probe(takes), pin="number")
    execute(run_id, 0, 1)
    assert steps == [0, 1, 2], "it hears of it with its next value"
    assert outputs(run_id) == [("number", 0), ("number", 1)]
    assert statuses(run_id) == {"0/1": "CANCELLED", "1/1": "CANCELLED", "1/2": "CANCELLED"}


def test_nothing_of_a_stopped_run_starts(probe: Probe, chain: Chain, statuses: Statuses) -> None:
    def run(inputs: Any, context: Context) -> Yields:
        pytest.fail("it must not run")
        yield

    run_id = chain(probe(run))
    stop(run_id)
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "CANCELLED"}


def test_the_first_unhandled_failure_stops_the_run_where_that_is_wanted(
    probe: Probe, submit: Callable[..., UUID], statuses: Statuses, rows: Rows
) -> None:
    failing, waiting = probe(no_json), probe(takes)
    nodes = [{"id": name, "block_id": block} for name, block in (("a", failing), ("b", waiting))]
    run_id = submit({"name": "g", "nodes": nodes, "links": [], "settings": {"on_node_failure": "stop"}})
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "FAILED block", "1/1": "CANCELLED"}
    assert rows("SELECT stop_as, stop_reason FROM runs") == [("FAILED", "node_failed")]


def break_connection(rows: Rows) -> None:
    rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'agentflow hot'")


def test_a_settle_waits_for_a_database_that_comes_back(
    probe: Probe, chain: Chain, statuses: Statuses, outputs: Outputs, rows: Rows
) -> None:
    def run(inputs: Any, context: Context) -> Yields:
        yield "number", 1
        break_connection(rows)

    run_id = chain(probe(run), probe(takes), pin="number")
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "COMPLETED", "1/1": "QUEUED"}
    assert outputs(run_id) == [("number", 1)]


def test_what_could_not_be_stored_does_not_count_as_a_failure_of_the_block(
    probe: Probe, chain: Chain, statuses: Statuses, outputs: Outputs, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_module, "_BATCH_OUTPUTS", 1)
    monkeypatch.setattr(attempt_module, "_SETTLE_PATIENCE", timedelta(0))
    attempts: list[int] = []

    def run(inputs: Any, context: Context) -> Yields:
        attempts.append(context.attempt)
        if context.attempt == 1:
            break_connection(rows)
        yield "number", 1

    run_id = chain(probe(run))
    with pytest.raises(Unavailable):
        execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "RUNNING"}, "its lease is to be given back"
    (token,) = rows("SELECT token FROM node_executions")
    lose(run_id, token)
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "COMPLETED"}
    assert attempts == [1, 2]


# ── With signals, as in a worker's child ─────────────────────────────────────────────────────────────────────────────


def test_a_value_is_stored_while_its_block_is_busy(
    probe: Probe, chain: Chain, signals: None, outputs: Outputs, eventually: Callable[..., None]
) -> None:
    def run(inputs: Any, context: Context) -> Yields:
        yield "number", 1
        eventually(lambda: outputs(context.run_id) == [("number", 1)])
        yield "number", 2

    run_id = chain(probe(run))
    execute(run_id, 0, 1)
    assert outputs(run_id) == [("number", 1), ("number", 2)]


def test_a_value_of_an_atomic_block_is_not(
    probe: Probe, chain: Chain, signals: None, outputs: Outputs, eventually: Callable[..., None]
) -> None:
    def run(inputs: Any, context: Context) -> Yields:
        yield "number", 1
        end = time.monotonic() + 4 * settings().flush_seconds
        eventually(lambda: time.monotonic() > end)
        assert outputs(context.run_id) == []

    run_id = chain(probe(run, atomic=True))
    execute(run_id, 0, 1)
    assert outputs(run_id) == [("number", 1)]


async def sleeps_asynchronously(inputs: Any, context: Context) -> AsyncIterator[tuple[str, Any]]:
    yield "number", 1
    await asyncio.sleep(30)


def sleeps(inputs: Any, context: Context) -> Yields:
    yield "number", 1
    time.sleep(30)


def catches_everything(inputs: Any, context: Context) -> Yields:
    yield "number", 1
    with suppress(BaseException):
        time.sleep(30)
    yield "number", 2


def does_not_begin(inputs: Any, context: Context) -> Any:
    time.sleep(30)


@pytest.mark.parametrize("run", [sleeps, sleeps_asynchronously, catches_everything, does_not_begin])
def test_a_block_that_runs_too_long_ends_as_a_timeout(
    probe: Probe,
    chain: Chain,
    signals: None,
    statuses: Statuses,
    outputs: Outputs,
    rows: Rows,
    run: Callable[..., Any],
) -> None:
    run_id = chain(probe(run), settings={"timeout": 0.3})
    before = time.monotonic()
    execute(run_id, 0, 1)
    assert time.monotonic() - before < 15
    assert statuses(run_id) == {"0/1": "FAILED timeout"}
    assert rows("SELECT error FROM node_executions") == ["the block ran longer than 0.3 s"]
    assert outputs(run_id)[-1] == ("error", "the block ran longer than 0.3 s")


def test_a_timeout_is_tried_again_where_transient_failures_are(
    probe: Probe, chain: Chain, signals: None, statuses: Statuses
) -> None:
    run_id = chain(probe(does_not_begin), settings={"timeout": 0.1, "retry": {"max_failures": 1}})
    execute(run_id, 0, 1)
    assert statuses(run_id) == {"0/1": "QUEUED timeout"}


def test_the_blocks_own_timeout_counts_where_the_node_names_none(
    probe: Probe, chain: Chain, signals: None, rows: Rows
) -> None:
    run_id = chain(probe(does_not_begin, timeout=0.2))
    execute(run_id, 0, 1)
    assert rows("SELECT error FROM node_executions WHERE run_id = :run", run=run_id) == [
        "the block ran longer than 0.2 s"
    ]


@pytest.mark.parametrize("run", [sleeps, sleeps_asynchronously])
def test_a_sleeping_block_is_stopped_with_its_run(
    probe: Probe, chain: Chain, signals: None, statuses: Statuses, run: Callable[..., Any]
) -> None:
    run_id = chain(probe(run))
    done = threading.Event()

    def stop_it() -> None:
        while not done.wait(0.02) and statuses(run_id) != {"0/1": "RUNNING"}:
            pass
        stop(run_id)
        while not done.wait(0.05):
            os.kill(os.getpid(), signal.SIGUSR2)

    stopper = threading.Thread(target=stop_it)
    stopper.start()
    try:
        execute(run_id, 0, 1)
    finally:
        done.set()
        stopper.join(10)
    assert statuses(run_id) == {"0/1": "CANCELLED"}


@pytest.mark.parametrize(("ordering", "delivered"), [("arrival", [1]), ("ordered", [])])
def test_who_is_done_first_is_delivered_first_where_the_order_was_given_up(
    ordering: str, delivered: list[int], probe: Probe, submit: Callable[..., UUID], rows: Rows
) -> None:
    def two(inputs: Any, context: Context) -> Yields:
        yield "value", 0
        yield "value", 1

    nodes = [
        {"id": "two", "block_id": probe(two), "input_default": {}},
        {"id": "some", "block_id": probe(takes), "input_default": {}, "settings": {"ordering": ordering}},
        {"id": "last", "block_id": probe(takes), "input_default": {}},
    ]
    links = [
        {"source_id": source, "source_name": "value", "sink_id": sink, "sink_name": "value"}
        for source, sink in (("two", "some"), ("some", "last"))
    ]
    run_id = submit({"name": "order", "nodes": nodes, "links": links})
    execute(run_id, 0, 1)
    execute(run_id, 1, 2)
    values = rows(
        "SELECT o.value::int FROM deliveries d JOIN outputs o ON o.run_id = d.run_id AND o.node = d.source_node "
        "AND o.idx = d.source_idx AND o.ordinal = d.source_ordinal AND o.part = 0 WHERE d.run_id = :run AND d.node = 2",
        run=run_id,
    )
    assert values == delivered


def test_a_block_learns_its_owners_time_zone_when_it_asks(
    probe: Probe, chain: Chain, outputs: Outputs, rows: Rows
) -> None:
    def run(inputs: Any, context: Context) -> Yields:
        yield "value", str(context.time_zone())

    for name in (None, "Asia/Kathmandu"):
        rows("UPDATE users SET time_zone = :name RETURNING id", name=name)
        run_id = chain(probe(run))
        execute(run_id, 0, 1)
        assert outputs(run_id) == [("value", str(name))]
