"""Decides whether and when a failed attempt is made again."""

import random
from datetime import timedelta

from agentflow.errors import FailureKind
from agentflow.graph.settings import RetryPolicy


def retry_delay(
    policy: RetryPolicy, kind: FailureKind, failures: int, chance: random.Random, after: float | None = None
) -> timedelta | None:
    """How long to wait before the next attempt, or None when there is to be none.

    Args:
        policy: the node's retry settings.
        kind: what the attempt failed of.
        failures: how many attempts failed before this one.
        chance: the source of jitter: half of the delay is fixed, half is random.
        after: seconds that the one who failed asked for; waited for too, as far as the policy's cap lets it.
    """
    if kind not in policy.on or failures >= policy.max_failures:
        return None
    seconds = policy.base * (2.0**failures if policy.backoff == "exponential" else 1.0)
    seconds = min(seconds, policy.cap)
    if policy.jitter:
        seconds *= 0.5 + chance.random() / 2
    return timedelta(seconds=max(seconds, min(after or 0.0, policy.cap)))
