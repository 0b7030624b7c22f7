"""The rate limit: a token bucket for each key."""

import pytest

from agentflow.api.app import create_app
from agentflow.api.rate import MAX_KEYS, RateLimit
from agentflow.errors import TooMany
from agentflow.settings import Settings


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def allowed(limit: RateLimit, key: str, tries: int) -> int:
    count = 0
    for _ in range(tries):
        try:
            limit.take(key)
        except TooMany:
            continue
        count += 1
    return count


def test_a_burst_passes_and_then_the_rate_holds():
    clock = Clock()
    limit = RateLimit(10.0, clock)
    assert allowed(limit, "a", 100) == 20
    clock.time = 1.0
    assert allowed(limit, "a", 100) == 10
    clock.time = 1000.0
    assert allowed(limit, "a", 100) == 20


def test_keys_do_not_take_from_each_other():
    limit = RateLimit(1.0, Clock())
    assert (allowed(limit, "a", 10), allowed(limit, "b", 10)) == (2, 2)


def test_the_message_says_when_to_come_back():
    limit = RateLimit(0.1, Clock())
    limit.take("a")
    with pytest.raises(TooMany, match="again in 10 s"):
        limit.take("a")


def test_it_does_not_grow_without_end():
    limit = RateLimit(1.0, Clock())
    for number in range(MAX_KEYS + 10):
        limit.take(str(number))
    assert len(limit._buckets) == MAX_KEYS


def test_too_many_requests_are_a_429(environment, api):
    slow = create_app(Settings(**{**environment.model_dump(), "request_rate": 1.0})).test_client()
    slow.environ_base["HTTP_AUTHORIZATION"] = api.environ_base["HTTP_AUTHORIZATION"]
    replies = [slow.get("/api/v1/blocks") for _ in range(4)]
    assert [reply.status_code for reply in replies[:2]] == [200, 200]
    assert replies[-1].status_code == 429
    assert "Retry-After" in replies[-1].headers
