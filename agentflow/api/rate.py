"""Limits the request rate of each key, over all web processes, and tells in `RateLimit-*` how much of it is left.

`limits` counts in Redis. With another broker, or while Redis is away, each process counts for itself, so that a key
gets up to n times the rate with n of them. (flask-limiter, made of `limits`, counts before a request's key is known.)
"""

import logging
import math
from threading import Lock
from time import time
from typing import Final, NamedTuple

from flask import Flask, Response, g
from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis.exceptions import RedisError

from agentflow import clock
from agentflow.errors import TooMany
from agentflow.logs import log_outage
from agentflow.settings import Settings

logger = logging.getLogger(__name__)

BURST_SECONDS: Final = 2.0
"""The burst: an idle key may send at once what the rate allows in this time."""

_TIMEOUT: Final = 0.25  # seconds: what a request waits for Redis at most
_AWAY: Final = 5.0  # seconds without another try after a failure


class Left(NamedTuple):
    """What is left of a key's limit: requests of a number, and seconds until all of it is there again."""

    limit: int
    remaining: int
    reset: int


class RateLimit:
    """A rate limit for each key.

    Args:
        rate: requests a second.
        redis_url: where to count; None: in this process.
    """

    def __init__(self, rate: float, redis_url: str | None) -> None:
        self._rate = rate
        self._limit = _item(rate)
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared: SlidingWindowCounterRateLimiter | None = None
        if redis_url is not None:
            storage = RedisStorage(redis_url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT)
            self._shared = SlidingWindowCounterRateLimiter(storage)
        self._lock = Lock()
        self._away_until = 0.0

    def take(self, key: str) -> Left:
        """Count one request of `key`.

        Raises:
            TooMany: it has sent as many as it may.
        """
        if self._shared is not None and clock.monotonic() >= self._away_until:
            try:
                return self._take(self._shared, key)
            except RedisError as error:
                with self._lock:
                    self._away_until = clock.monotonic() + _AWAY
                log_outage(logger, "rates_counted_apart", error)
        return self._take(self._own, key)

    def _take(self, limiter: SlidingWindowCounterRateLimiter, key: str) -> Left:
        allowed = limiter.hit(self._limit, key)
        window = limiter.get_window_stats(self._limit, key)
        seconds = window.reset_time - time()
        # A window that has only just begun is told as one that ends now.
        reset = math.ceil(seconds) if seconds > 0 else self._limit.get_expiry()
        if not allowed:
            raise TooMany(f"more than {self._rate:g} requests a second; try again in {reset} s")
        return Left(self._limit.amount, window.remaining, reset)


def _item(rate: float) -> RateLimitItem:
    """As many requests in a window of whole seconds as the rate allows: at least one."""
    seconds = max(math.ceil(BURST_SECONDS), math.ceil(1 / rate))
    return RateLimitItemPerSecond(max(1, math.floor(rate * seconds)), seconds, namespace="agentflow-rate")


def tell(response: Response) -> Response:
    """Add the headers of the limit to a response of a request that was counted."""
    left: Left | None = g.get("rate_left")
    if left is not None:
        response.headers["RateLimit-Limit"] = str(left.limit)
        response.headers["RateLimit-Remaining"] = str(left.remaining)
        response.headers["RateLimit-Reset"] = str(left.reset)
    return response


def install(app: Flask, ours: Settings) -> None:
    """Let the requests to `app` be counted, in the broker if that is Redis, and their responses tell what is left."""
    url = ours.broker_url or ours.stack.get("broker_url") or ""
    app.extensions["rate"] = RateLimit(ours.request_rate, url if url.startswith(("redis://", "rediss://")) else None)
    app.after_request(tell)
