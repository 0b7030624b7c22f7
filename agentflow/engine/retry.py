"""Decides whether and when a failed attempt is retried: `after_failure`."""

import random
from datetime import timedelta
from typing import Final

from agentflow.engine.outcome import Failed
from agentflow.engine.settlement import STOPPING, Transition
from agentflow.errors import FailureKind
from agentflow.graph.settings import RetryPolicy

_chance: Final = random.Random()  # noqa: S311 - jitter, not secrets


def after_failure(policy: RetryPolicy, failed: Failed, failures: int) -> Transition:
    """The move of a node execution whose attempt failed: it is retried, or it has failed for good.

    Args:
        policy: the node's retry settings.
        failed: how the attempt failed.
        failures: how many attempts failed before this one.
    """
    if failed.reason in STOPPING:  # which ends the run
        return Transition.failed(failed.reason, failed.message)
    delay = retry_delay(policy, failed.kind, failures, _chance, failed.after)
    if delay is None:
        return Transition.failed(failed.reason, failed.message)
    return Transition.retried(failed.reason, failed.message, delay.total_seconds())


def retry_delay(
    policy: RetryPolicy, kind: FailureKind, failures: int, chance: random.Random, after: float | None = None
) -> timedelta | None:
    """The time until the next attempt; None: there is none.

    Args:
        policy: the node's retry settings.
        kind: the kind of failure.
        failures: how many attempts failed before this one.
        chance: the source of jitter: half of the delay is fixed, half is random.
        after: seconds that the failure asks for; respected up to the policy's cap.
    """
    if kind not in policy.on or failures >= policy.max_failures:
        return None
    seconds = policy.base * (2.0**failures if policy.backoff == "exponential" else 1.0)
    seconds = min(seconds, policy.cap)
    if policy.jitter:
        seconds *= 0.5 + chance.random() / 2
    return timedelta(seconds=max(seconds, min(after or 0.0, policy.cap)))
