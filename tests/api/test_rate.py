"""The rate limit: of each key, over all web processes, and of each process by itself while Redis is away."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow import clock
from agentflow.api.app import create_app
from agentflow.api.rate import RateLimit, _item
from agentflow.errors import TooMany
from agentflow.settings import Settings


def allowed(limit: RateLimit, key: str, tries: int) -> int:
    count = 0
    for _ in range(tries):
        try:
            limit.take(key)
        except TooMany:
            continue
        count += 1
    return count


@settings(max_examples=200, deadline=None)
@given(rate=st.floats(0.001, 100_000))
def test_the_window_allows_what_the_rate_does(rate: float) -> None:
    item = _item(rate)
    seconds = item.get_expiry()
    assert 2 <= seconds <= 1 + max(2, 1 / rate)
    assert item.amount >= 1
    assert item.amount <= max(1, rate * seconds)


@pytest.mark.parametrize("shared", [True, False])
def test_a_burst_passes_and_then_no_more(broker_url: str, shared: bool) -> None:
    limit = RateLimit(10.0, broker_url if shared else None)
    assert allowed(limit, "a", 60) == 20
    assert allowed(limit, "b", 60) == 20, "keys do not take from each other"


def test_all_processes_count_together(broker_url: str) -> None:
    limits = [RateLimit(100.0, broker_url) for _ in range(4)]
    with ThreadPoolExecutor(8) as threads:
        counts = list(threads.map(lambda number: allowed(limits[number % 4], "a", 40), range(16)))
    assert 200 <= sum(counts) <= 200 + 100, "what its window allows, and what a second or so adds while it is counted"


def test_it_tells_what_is_left(broker_url: str) -> None:
    limit = RateLimit(5.0, broker_url)
    left = [limit.take("a") for _ in range(10)]
    assert [one.limit for one in left] == [10] * 10
    assert [one.remaining for one in left] == list(range(9, -1, -1))
    assert all(1 <= one.reset <= 2 for one in left)


def test_the_message_says_when_to_come_back(broker_url: str) -> None:
    limit = RateLimit(0.1, broker_url)
    limit.take("a")
    with pytest.raises(TooMany, match=r"again in (9|10) s"):
        limit.take("a")


def test_while_redis_is_away_each_process_counts_for_itself() -> None:
    limit = RateLimit(10.0, "redis://127.0.0.1:1/0")
    assert allowed(limit, "a", 60) == 20


def test_when_redis_goes_away_it_counts_on_in_this_process_and_comes_back(
    broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = RateLimit(10.0, broker_url)
    assert limit.take("a").remaining == 19

    def away(*args: object) -> None:
        raise redis.ConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(limit._counted._shared, "hit", away)
        assert [limit.take("a").remaining for _ in range(20)] == list(range(19, -1, -1))
        with pytest.raises(TooMany):
            limit.take("a")
    later = clock.monotonic() + 5
    monkeypatch.setattr(clock, "monotonic", lambda: later)
    assert RateLimit(10.0, broker_url).take("b").remaining == 19
    assert limit.take("b").remaining == 18, "it counts in Redis again"


def test_redis_keeps_nothing_of_a_key_that_is_idle(broker_url: str, eventually: Callable[..., None]) -> None:
    limit = RateLimit(100.0, broker_url)
    for number in range(50):
        limit.take(str(number))
    with redis.Redis.from_url(broker_url) as client:
        assert client.dbsize() == 50
        eventually(lambda: client.dbsize() == 0)


def test_too_many_requests_are_a_429(environment: Settings, api: FlaskClient) -> None:
    slow = create_app(Settings(**{**environment.model_dump(), "request_rate": 1.0})).test_client()
    slow.environ_base["HTTP_AUTHORIZATION"] = api.environ_base["HTTP_AUTHORIZATION"]
    replies = [slow.get("/api/v1/blocks") for _ in range(12)]
    assert Counter(reply.status_code for reply in replies)[429] >= 8
    assert replies[0].headers["RateLimit-Limit"] == "2"
    assert replies[0].headers["RateLimit-Remaining"] == "1"
    refused = next(reply for reply in replies if reply.status_code == 429)
    assert "Retry-After" in refused.headers
