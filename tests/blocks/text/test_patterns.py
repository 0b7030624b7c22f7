"""Regular expressions of users: they find what `re` finds, and none holds a worker for longer than it may."""

import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.blocks import registry
from agentflow.blocks.text import patterns
from agentflow.blocks.trial import collect
from agentflow.errors import BadInput, Interrupted
from agentflow.worker.interrupts import Interrupts

# pytest-timeout's other method is SIGALRM itself.
pytestmark = pytest.mark.timeout(60, method="thread")


def run(block: str, /, **inputs: Any) -> list[tuple[str, Any]]:
    return collect(registry.by_name(block), inputs)


@pytest.fixture
def alarm() -> Iterator[Interrupts]:
    """An alarm that has taken this process's signals, for the test."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGALRM, signal.SIGUSR2)]
    made = Interrupts()
    made.install()
    yield made
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [(r"(a+)+$", "a" * 60 + "b"), (r"(a|a)*c", "a" * 60), (r"\s+$", " " * 100_000 + "x"), (r"[ab]*c", "a" * 100_000)],
)
@pytest.mark.parametrize("block", ["MatchTextPattern", "ExtractTextInformation"])
def test_a_pattern_that_backtracks_without_end_is_interrupted(
    block: str, pattern: str, text: str, alarm: Interrupts
) -> None:
    pin = "match" if block == "MatchTextPattern" else "pattern"
    with (
        alarm.attempt(0.3, lambda: None, lambda: False),
        pytest.raises(Interrupted),
        alarm.block(),
    ):
        run(block, text=text, **{pin: pattern})
    assert alarm.cause == "timeout"


@given(
    st.text("ab1 ", max_size=30),
    st.sampled_from(["a", "a+b?", "(a)(b)?", "^", r"\b", "x", "(?=(.))"]),
    st.integers(0, 2),
)
def test_all_that_re_finds_is_taken(text: str, pattern: str, group: int) -> None:
    known = group <= re.compile(pattern).groups
    expected = [taken for match in re.finditer(pattern, text) if known and (taken := match.group(group)) is not None]
    outputs = run("ExtractTextInformation", text=text, pattern=pattern, group=group, find_all=True)
    assert [value for pin, value in outputs if pin == "positive"] == expected
    assert outputs[-2:] == [("matched_results", expected), ("matched_count", len(expected))]
    assert (("negative", text) in outputs) is (not expected)


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [("(" * 5000, "nested too deep"), ("x{99999999999999}", "repeats too often"), ("(?P<a", "at position"),
     ("a" * (patterns.MAX_PATTERN + 1), "more than 10000 characters")],
)  # fmt: skip
def test_what_is_no_pattern_is_refused(pattern: str, problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        run("MatchTextPattern", text="a", match=pattern)


def test_the_ten_thousandth_match_is_still_given_out() -> None:
    outputs = run("ExtractTextInformation", text="ab" * patterns.MAX_MATCHES, pattern="a", find_all=True)
    assert outputs[-1] == ("matched_count", patterns.MAX_MATCHES)


def test_a_pattern_that_a_later_python_may_read_otherwise_only_matches() -> None:
    assert run("MatchTextPattern", text="[a", match="[[a]+") == [("positive", "[a")]
