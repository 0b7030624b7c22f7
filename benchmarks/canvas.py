"""Runs the same shapes with stock Celery canvas, and bare no-op tasks as a reference.

Settings are Celery's defaults, except a larger prefetch, which suits short tasks. `celery -A benchmarks.canvas worker`
and the submitting process (`canvas_client.py`) read the addresses of broker and result backend from the environment.
This module must not import AgentFlow.
"""

import os
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import redis
from celery import Celery, chain, chord

TIMEOUT = 300.0  # seconds to wait for a result before the benchmark fails

app = Celery("canvas", broker=os.environ.get("BENCH_BROKER"), backend=os.environ.get("BENCH_BACKEND"))
app.conf.update(worker_prefetch_multiplier=64, broker_connection_retry_on_startup=True)


@app.task(ignore_result=True)  # type: ignore[untyped-decorator]
def noop(_number: int) -> None:
    """Do nothing but count the call."""
    _counter().incr("noops")


@app.task  # type: ignore[untyped-decorator]
def step(x: int) -> int:
    """The work of one step."""
    return x + 1


@app.task  # type: ignore[untyped-decorator]
def gather(values: list[int]) -> list[int]:
    """The work of the fan-in: all values, in order."""
    return values


@cache
def _counter() -> Any:
    return redis.Redis.from_url(os.environ["BENCH_BACKEND"])


def _chain_of(length: int) -> Any:
    return chain(step.s(0), *[step.s() for _ in range(length - 1)])


def run_chains(count: int, length: int) -> float:
    """Run `count` chains of `length` steps at once. Returns seconds from the first call until the last result."""
    return _timed(
        lambda: [result.get(timeout=TIMEOUT) for result in [_chain_of(length).delay() for _ in range(count)]],
        [length] * count,
    )


def run_fan(width: int) -> float:
    """Run a chord of `width` steps. Returns seconds until its result."""
    return _timed(
        lambda: chord([step.s(number) for number in range(width)], gather.s()).delay().get(timeout=TIMEOUT),
        list(range(1, width + 1)),
    )


def _timed(work: Callable[[], Any], expected: Any) -> float:
    started = time.perf_counter()
    found = work()
    seconds = time.perf_counter() - started
    if found != expected:
        raise RuntimeError(f"plain Celery gave a wrong result: {str(found)[:200]}")
    return seconds


def run_noops(count: int) -> float:
    """Publish and run `count` no-op tasks without state. Returns seconds."""
    _counter().delete("noops")
    started = time.perf_counter()
    for number in range(count):
        noop.delay(number)
    while int(_counter().get("noops") or 0) < count:
        if time.perf_counter() - started > TIMEOUT:
            raise RuntimeError("plain Celery lost no-op tasks")
        time.sleep(0.005)
    return time.perf_counter() - started
