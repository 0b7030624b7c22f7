"""Limits the request rate of each key, with a token bucket per key and process.

The limit protects a web process from one client. It is not shared between processes, because counting in Redis would
add a round trip to every request; so with n web processes a key gets up to n times the rate.
"""

import math
from collections.abc import Callable, Hashable
from threading import Lock

from cachetools import LRUCache

from agentflow import clock
from agentflow.errors import TooMany

BURST_SECONDS = 2.0
"""The burst: an idle key may send at once what the rate allows in this time."""

MAX_KEYS = 10_000
"""The most buckets. The least recently used one is dropped, so its key starts again with a full bucket."""


class RateLimit:
    """A rate limit for each key.

    Args:
        rate: requests a second.
        now: the clock, in seconds.
    """

    def __init__(self, rate: float, now: Callable[[], float] = clock.monotonic) -> None:
        self._rate = rate
        self._burst = max(1.0, rate * BURST_SECONDS)
        self._now = now
        self._lock = Lock()
        self._buckets: LRUCache[Hashable, tuple[float, float]] = LRUCache(MAX_KEYS)  # tokens, at which time

    def take(self, key: Hashable) -> None:
        """Count one request of `key`.

        Raises:
            TooMany: its bucket is empty.
        """
        with self._lock:
            now = self._now()
            tokens, since = self._buckets.get(key, (self._burst, now))
            tokens = min(self._burst, tokens + (now - since) * self._rate)
            allowed = tokens >= 1.0
            self._buckets[key] = (tokens - 1.0 if allowed else tokens, now)
        if not allowed:
            wait = math.ceil((1.0 - tokens) / self._rate)
            raise TooMany(f"more than {self._rate:g} requests a second; try again in {wait} s")
