"""Which failures are tried again, and after how long."""

import itertools
import random
from datetime import timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.engine.retry import retry_delay
from agentflow.errors import FailureKind
from agentflow.graph.settings import RetryPolicy

KINDS = get_args(FailureKind)


def policy(**keys: Any) -> RetryPolicy:
    return RetryPolicy(**{"max_failures": 1000, "jitter": False, **keys})


def delay(policy: RetryPolicy, failures: int, kind: FailureKind = "transient", seed: int = 0) -> float | None:
    found = retry_delay(policy, kind, failures, random.Random(seed))
    return None if found is None else found.total_seconds()


@pytest.mark.parametrize(
    ("keys", "delays"),
    [
        ({}, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]),
        ({"base": 0.5, "cap": 3}, [0.5, 1, 2, 3, 3]),
        ({"backoff": "fixed", "base": 7}, [7, 7, 7]),
        ({"backoff": "fixed", "base": 7, "cap": 5}, [5, 5]),
        ({"base": 0}, [0, 0]),
        ({"cap": 0}, [0, 0]),
    ],
)
def test_the_wait_grows_as_the_policy_says(keys: dict[str, Any], delays: list[float]) -> None:
    assert [delay(policy(**keys), failures) for failures in range(len(delays))] == delays


@pytest.mark.parametrize("max_failures", [0, 1, 3])
def test_so_many_failures_are_tried_again(max_failures: int) -> None:
    tried = [delay(policy(max_failures=max_failures), failures) is not None for failures in range(5)]
    assert tried == [True] * max_failures + [False] * (5 - max_failures)


@pytest.mark.parametrize(
    ("on", "kind"), list(itertools.product([(), ("transient",), ("block", "system"), KINDS], KINDS))
)
def test_only_the_kinds_of_failure_that_are_named_are_tried_again(
    on: tuple[FailureKind, ...], kind: FailureKind
) -> None:
    assert (delay(policy(on=on), 0, kind) is not None) == (kind in on)


@pytest.mark.parametrize(
    ("keys", "after", "seconds"),
    [({}, 20, 20), ({}, 0.5, 1), ({}, None, 1), ({}, 1e9, 300), ({"cap": 5}, 20, 5), ({"base": 0}, 3, 3)],
)
def test_who_asks_to_be_left_alone_is_left_alone_up_to_the_cap(
    keys: dict[str, Any], after: float | None, seconds: float
) -> None:
    found = retry_delay(policy(**keys), "transient", 0, random.Random(0), after)
    assert found == timedelta(seconds=seconds)


def test_asking_to_be_left_alone_earns_no_attempt() -> None:
    assert retry_delay(policy(max_failures=1), "transient", 1, random.Random(0), 5) is None


def test_nothing_is_tried_again_unless_somebody_says_so() -> None:
    assert all(retry_delay(RetryPolicy(), kind, 0, random.Random(0)) is None for kind in KINDS)


policies = st.builds(
    RetryPolicy,
    max_failures=st.integers(1, 1000),
    backoff=st.sampled_from(["exponential", "fixed"]),
    base=st.floats(0, 86_400),
    cap=st.floats(0, 30 * 86_400),
)


@given(policies, st.integers(0, 999), st.integers(0, 2**32))
def test_jitter_takes_off_at_most_half_and_never_adds(made: RetryPolicy, failures: int, seed: int) -> None:
    full = delay(made.model_copy(update={"jitter": False}), failures)
    spread = delay(made, failures, seed=seed)
    if failures >= made.max_failures:
        assert full is spread is None
        return
    assert full is not None
    assert spread is not None
    microsecond = timedelta.resolution.total_seconds()  # what a timedelta rounds to
    assert full <= made.cap + microsecond
    assert full / 2 - microsecond <= spread <= full + microsecond


def test_waits_with_jitter_differ() -> None:
    assert len({delay(policy(jitter=True), 3, seed=seed) for seed in range(20)}) > 10
