"""Limits the request rate of each key or session, over all web processes, and how often people try to sign in.

`limits` counts in Redis. With another broker, or while Redis is away, each process counts for itself, so that a key
gets up to n times the rate with n of them. (flask-limiter, made of `limits`, counts before a request's key is known.)
What is left of a key's rate is told in `RateLimit-*`.
"""

import hashlib
import logging
import math
from collections.abc import Callable
from threading import Lock
from time import time
from typing import Final, Generic, NamedTuple, TypeVar
from uuid import UUID

from flask import Flask, Response, g
from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter, RateLimiter, SlidingWindowCounterRateLimiter
from redis.exceptions import RedisError

from agentflow import clock
from agentflow.errors import TooMany
from agentflow.logs import log_outage
from agentflow.settings import Settings

logger = logging.getLogger(__name__)

BURST_SECONDS: Final = 2.0
"""The burst: an idle key may send at once what the rate allows in this time."""

SIGN_IN_SECONDS: Final = 900
"""The window in which attempts to sign in are counted."""

PER_ADDRESS: Final = 10
"""How many names' attempts may come from one address: people share it."""

OUTWARD: Final = 30
"""Calls to providers that one user may cause in `OUTWARD_SECONDS`: each holds a thread of the web process."""

OUTWARD_SECONDS: Final = 60

HOOK_SECONDS: Final = 60
"""The window in which calls of webhooks are counted."""

HOOKS_PER_ADDRESS: Final = 10
"""How many triggers' deliveries may come from one address: a provider's come from few."""

_TIMEOUT: Final = 0.25  # seconds: what a request waits for Redis at most
_AWAY: Final = 5.0  # seconds without another try after a failure


class Left(NamedTuple):
    """What is left of a key's limit: requests of a number, and seconds until all of it is there again."""

    limit: int
    remaining: int
    reset: int


_Limiter = TypeVar("_Limiter", bound=RateLimiter)
_Result = TypeVar("_Result")


class _Counted(Generic[_Limiter]):
    """One way of counting: in Redis, or in this process where there is none, and while it is away.

    Args:
        way: the strategy.
        redis_url: where to count; None: in this process.
    """

    def __init__(self, way: type[_Limiter], redis_url: str | None) -> None:
        self._own = way(MemoryStorage())
        self._shared: _Limiter | None = None
        if redis_url is not None:
            self._shared = way(RedisStorage(redis_url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT))
        self._lock = Lock()
        self._away_until = 0.0

    def do(self, act: Callable[[_Limiter], _Result]) -> _Result:
        """Do `act` where it is counted now."""
        if self._shared is not None and clock.monotonic() >= self._away_until:
            try:
                return act(self._shared)
            except RedisError as error:
                with self._lock:
                    self._away_until = clock.monotonic() + _AWAY
                log_outage(logger, "rates_counted_apart", error)
        return act(self._own)


class RateLimit:
    """A rate limit for each key.

    Args:
        rate: requests a second.
        redis_url: where to count; None: in this process.
    """

    def __init__(self, rate: float, redis_url: str | None) -> None:
        self._rate = rate
        self._limit = _item(rate)
        self._counted = _Counted(SlidingWindowCounterRateLimiter, redis_url)

    def take(self, key: str) -> Left:
        """Count one request of `key`.

        Raises:
            TooMany: it has sent as many as it may.
        """
        return self._counted.do(lambda limiter: self._take(limiter, key))

    def _take(self, limiter: SlidingWindowCounterRateLimiter, key: str) -> Left:
        allowed = limiter.hit(self._limit, key)
        window = limiter.get_window_stats(self._limit, key)
        seconds = window.reset_time - time()
        # A window that has only just begun is told as one that ends now.
        reset = math.ceil(seconds) if seconds > 0 else self._limit.get_expiry()
        if not allowed:
            raise TooMany(f"more than {self._rate:g} requests a second; try again in {reset} s")
        return Left(self._limit.amount, window.remaining, reset)


class SignInLimit:
    """How often people may try to sign in, by name and by address. An attempt counts before its password is looked at.

    Args:
        attempts: those with one name in `SIGN_IN_SECONDS`; `PER_ADDRESS` times as many from one address.
        redis_url: where to count; None: in this process.
    """

    def __init__(self, attempts: int, redis_url: str | None) -> None:
        self._of_name = RateLimitItemPerSecond(attempts, SIGN_IN_SECONDS, namespace="agentflow-sign-in-name")
        self._of_address = RateLimitItemPerSecond(
            attempts * PER_ADDRESS, SIGN_IN_SECONDS, namespace="agentflow-sign-in-address"
        )
        self._counted = _Counted(MovingWindowRateLimiter, redis_url)

    def take(self, name: str | None, address: str) -> None:
        """Count one attempt; `name`: None, where none is given.

        Raises:
            TooMany: there were as many as there may be.
        """
        self._take(self._of_address, address)
        if name is not None:
            self._take(self._of_name, _hidden(name))

    def succeeded(self, name: str) -> None:
        """Forget the attempts with a name: its password was right."""
        self._counted.do(lambda limiter: limiter.clear(self._of_name, _hidden(name)))

    def _take(self, item: RateLimitItem, whose: str) -> None:
        if self._counted.do(lambda limiter: limiter.hit(item, whose)):
            return
        window = self._counted.do(lambda limiter: limiter.get_window_stats(item, whose))
        seconds = max(1, math.ceil(window.reset_time - time()))
        raise TooMany(f"too many attempts to sign in; try again in {seconds} s", after=seconds)


class OutwardLimit:
    """How often each user may have this installation call a provider: so many times a minute.

    Args:
        redis_url: where to count; None: in this process.
    """

    def __init__(self, redis_url: str | None) -> None:
        self._of_user = RateLimitItemPerSecond(OUTWARD, OUTWARD_SECONDS, namespace="agentflow-outward")
        self._counted = _Counted(MovingWindowRateLimiter, redis_url)

    def take(self, user_id: UUID) -> None:
        """Count one call.

        Raises:
            TooMany: there were as many as there may be.
        """
        if not self._counted.do(lambda limiter: limiter.hit(self._of_user, str(user_id))):
            raise TooMany(f"more than {OUTWARD} calls to providers in {OUTWARD_SECONDS} s; try again later")


class HookLimit:
    """How often webhooks may be called: each trigger's, and all of them from one address.

    Counted over a minute, because senders come in bursts, and not all of them try again.

    Args:
        rate: deliveries a second to one trigger; `HOOKS_PER_ADDRESS` times as many from one address.
        redis_url: where to count; None: in this process.
    """

    def __init__(self, rate: float, redis_url: str | None) -> None:
        most = max(1, math.floor(rate * HOOK_SECONDS))
        self._of_trigger = RateLimitItemPerSecond(most, HOOK_SECONDS, namespace="agentflow-hook")
        self._of_address = RateLimitItemPerSecond(
            most * HOOKS_PER_ADDRESS, HOOK_SECONDS, namespace="agentflow-hook-address"
        )
        self._counted = _Counted(SlidingWindowCounterRateLimiter, redis_url)

    def take_address(self, address: str) -> None:
        """Count one call from an address.

        Raises:
            TooMany: there were as many as there may be.
        """
        self._take(self._of_address, address, "calls of webhooks from this address")

    def take_trigger(self, trigger_id: UUID) -> None:
        """Count one call of a trigger's webhook.

        Raises:
            TooMany: there were as many as there may be.
        """
        self._take(self._of_trigger, str(trigger_id), "deliveries to this webhook")

    def _take(self, item: RateLimitItem, whose: str, what: str) -> None:
        if self._counted.do(lambda limiter: limiter.hit(item, whose)):
            return
        window = self._counted.do(lambda limiter: limiter.get_window_stats(item, whose))
        seconds = min(HOOK_SECONDS, max(1, math.ceil(window.reset_time - time())))
        raise TooMany(f"more than {item.amount} {what} in {HOOK_SECONDS} s; try again in {seconds} s", after=seconds)


def _hidden(name: str) -> str:
    """What stands in Redis for a name: it says nothing about the person, and its length is bounded."""
    return hashlib.sha256(name.encode()).hexdigest()


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
    broker = ours.broker_url or ours.stack.get("broker_url") or ""
    url = broker if broker.startswith(("redis://", "rediss://")) else None
    app.extensions["rate"] = RateLimit(ours.request_rate, url)
    app.extensions["sign_in_limit"] = SignInLimit(ours.sign_in_attempts, url)
    app.extensions["outward_limit"] = OutwardLimit(url)
    app.extensions["hook_limit"] = HookLimit(ours.hook_rate, url)
    app.after_request(tell)
