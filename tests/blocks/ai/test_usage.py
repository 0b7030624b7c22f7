"""What a model used is reported as its provider counts it: no token twice, also where the request fails."""

from collections import Counter
from typing import Any

import pytest
from asking_models import models, outputs
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from model_server import ModelServer, Reply

from agentflow.errors import NodeFailure

__all__ = ["models"]

PROVIDERS = ("openai", "groq", "open_router", "anthropic")
CALLS = {"llm_calls": 1}
counts_of = st.integers(0, 10**6)


def usage(provider: str, fresh: int, read: int, written: int, out: int, dollars: float | None = None) -> dict[str, Any]:
    """The usage as a provider writes it down. OpenAI's cache has no price for writing, so it counts none."""
    if provider == "anthropic":
        return {
            "input_tokens": fresh,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
            "output_tokens": out,
        }
    details = {"cached_tokens": read, **({"cache_write_tokens": written} if provider == "open_router" else {})}
    found = {
        "prompt_tokens": fresh + read + (written if provider == "open_router" else 0),
        "completion_tokens": out,
        "total_tokens": fresh + read + written + out,
        "prompt_tokens_details": details,
        "completion_tokens_details": {"reasoning_tokens": out // 2},
    }
    return found if dollars is None else {**found, "cost": dollars}


def ask(server: ModelServer, provider: str, block: str, reply: Reply) -> Counter[str]:
    counts: Counter[str] = Counter()
    server.replies.append(reply)
    model = "claude-next" if provider == "anthropic" else "gpt-4o"
    inputs: dict[str, Any] = {"prompt": "Hi.", "model": model, "credentials": {"provider": provider}}
    if block == "AIStructuredResponseGenerator":
        inputs["expected_format"] = {"a": "a letter"}
    outputs(block, server, inputs, counts=counts)
    return counts


@pytest.mark.parametrize("block", ["AITextGenerator", "AIStructuredResponseGenerator"])
@pytest.mark.parametrize("provider", PROVIDERS)
@hypothesis_settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fresh=counts_of, read=counts_of, written=counts_of, out=counts_of, dollars=st.floats(0, 100))
def test_no_token_is_counted_twice_and_none_is_lost(models, provider, block, fresh, read, written, out, dollars):
    reply = Reply('{"a": "b"}', usage=usage(provider, fresh, read, written, out, dollars))
    told = {
        "input_tokens": fresh,
        "output_tokens": out,
        "cache_read_tokens": read,
        "cache_write_tokens": written if provider in ("open_router", "anthropic") else 0,
        "cost_usd": dollars if provider == "open_router" else 0,
    }
    assert ask(models, provider, block, reply) == Counter(told | CALLS)


@pytest.mark.parametrize("cost", ["1", True, -1, 1e30, None, {}, [2]])
def test_dollars_that_are_none_count_for_nothing(models, cost):
    reply = Reply("Hi.", usage={**usage("open_router", 2, 0, 0, 1), "cost": cost})
    assert ask(models, "open_router", "AITextGenerator", reply)["cost_usd"] == 0


def test_a_refusal_is_reported_before_it_fails(models):
    counts: Counter[str] = Counter()
    models.replies.append(Reply("No.", finish="content_filter", usage=usage("openai", 7, 3, 0, 2)))
    with pytest.raises(NodeFailure, match="content filter"):
        outputs("AITextGenerator", models, {"prompt": "Hi."}, counts=counts)
    assert counts == Counter(input_tokens=7, cache_read_tokens=3, output_tokens=2)


def test_a_stream_that_breaks_off_has_used_what_it_said_so_far(models):
    counts: Counter[str] = Counter()
    models.replies.append(Reply("one two three four", cut=True, usage=usage("anthropic", 7, 3, 2, 9)))
    with pytest.raises(NodeFailure):
        outputs("AITextGenerator", models, {"prompt": "Hi.", "model": "claude-next"}, counts=counts)
    assert counts == Counter(input_tokens=7, cache_read_tokens=3, cache_write_tokens=2, output_tokens=1)


def test_each_answer_that_cannot_be_used_is_reported(models):
    counts: Counter[str] = Counter()
    for text in ("nothing", "still nothing"):
        models.replies.append(Reply(text, usage=usage("openai", 10, 5, 0, 2)))
    given = {"prompt": "Hi.", "expected_format": {"a": "a letter"}, "retry": 2}
    with pytest.raises(NodeFailure, match="no answer that can be used"):
        outputs("AIStructuredResponseGenerator", models, given, counts=counts)
    assert (counts["input_tokens"], counts["cache_read_tokens"], counts["output_tokens"]) == (20, 10, 4)
