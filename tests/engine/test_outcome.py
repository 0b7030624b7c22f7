"""Whatever a block raises or reports becomes a failure of some kind, with a message that can be stored."""

import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow import errors
from agentflow.engine.outcome import Failed, failure, reported
from agentflow.errors import AgentFlowError, BadInput, BlockBug, EngineError, SystemFault, TimedOut, Transient

SUBSTITUTE = "\ufffd"


class _Loud(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class _Own(BadInput):
    """A block's own error says what its class says."""


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (BadInput("wrong"), Failed("user", "user", "wrong")),
        (BlockBug("bug"), Failed("block", "block", "bug")),
        (Transient("503"), Failed("transient", "transient", "503")),
        (Transient("429", after=7), Failed("transient", "transient", "429", 7)),
        (TimedOut("slow"), Failed("transient", "timeout", "slow")),
        (SystemFault("gone"), Failed("system", "system", "gone")),
        (_Own(), Failed("user", "user", "A block's own error says what its class says.")),
        (errors.NotFound("no graph"), Failed("user", "user", "no graph")),
        (errors.WrongSchema("old"), Failed("system", "system", "old")),
        (ConnectionResetError("by peer"), Failed("transient", "transient", "ConnectionResetError: by peer")),
        (TimeoutError(), Failed("transient", "transient", "TimeoutError")),
        (OSError("disk"), Failed("block", "block", "OSError: disk")),
        (ValueError("bad value"), Failed("block", "block", "ValueError: bad value")),
        (KeyError("name"), Failed("block", "block", "KeyError: 'name'")),
        (ZeroDivisionError(), Failed("block", "block", "ZeroDivisionError")),
        (ValueError("  \n"), Failed("block", "block", "ValueError")),
        (MemoryError(), Failed("block", "block", "the block used more memory than a worker process may have")),
        (SystemExit(3), Failed("block", "block", "SystemExit: 3")),
        (KeyboardInterrupt(), Failed("block", "block", "KeyboardInterrupt")),
        (_Loud(), Failed("block", "block", "_Loud: (its text cannot be had: RuntimeError)")),
        (ValueError("a\x00b\ud800c"), Failed("block", "block", f"ValueError: a{SUBSTITUTE}b{SUBSTITUTE}c")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_a_block_raises_is_told_apart(error: BaseException, outcome: Failed) -> None:
    assert failure(error) == outcome


def raises(deep: int) -> None:
    if deep:
        raises(deep - 1)
    raise ValueError("a\x00bug")


@pytest.mark.parametrize("deep", [0, 500])
def test_a_bug_tells_where_it_is(deep: int) -> None:
    try:
        raises(deep)
    except ValueError as error:
        trace = failure(error).trace
    assert trace is not None
    assert trace.startswith("Traceback")
    assert "test_outcome.py" in trace
    assert trace.endswith(f"ValueError: a{SUBSTITUTE}bug")
    assert len(trace) <= 20_000


@pytest.mark.parametrize("error", [BadInput("x"), BlockBug("x"), Transient("x"), TimeoutError(), EngineError("x")])
def test_what_is_no_bug_of_the_block_has_no_traceback(error: Exception) -> None:
    assert failure(error).trace is None
    assert reported("x").trace is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("it broke", "it broke"),
        ({"code": 7}, "{'code': 7}"),
        (7, "7"),
        ("", "the block reported an error without a message"),
        (None, "the block reported an error without a message"),
        (_Loud(), "(its text cannot be had: RuntimeError)"),
        ("a\x00b", f"a{SUBSTITUTE}b"),
    ],
)
def test_what_a_block_reports_on_its_error_pin_is_its_own_failure(value: Any, message: str) -> None:
    assert reported(value) == Failed("block", "block", message)


@given(st.text(st.characters(exclude_categories=[])))
def test_every_message_can_be_stored(text: str) -> None:
    for outcome in (failure(ValueError(text)), failure(BadInput(text)), reported(text)):
        assert "\x00" not in outcome.message
        outcome.message.encode("utf-8")


def test_a_long_message_is_cut() -> None:
    for outcome in (failure(ValueError("x" * 10**6)), failure(BadInput("x" * 10**6)), reported("x" * 10**6)):
        assert len(outcome.message) == 10_000


def test_every_error_of_ours_has_a_kind() -> None:
    ours = [found for _, found in inspect.getmembers(errors, inspect.isclass) if issubclass(found, AgentFlowError)]
    for cls in ours:
        expected = getattr(cls, "kind", "system" if issubclass(cls, EngineError) else "user")
        assert failure(cls()).kind == expected
