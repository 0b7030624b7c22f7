"""What tests of AI blocks share: a model server, and a context whose credentials lead there."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from model_server import ModelServer, running

from agentflow.blocks import registry
from agentflow.blocks.base import Context
from agentflow.blocks.credentials import Credential
from agentflow.blocks.trial import collect, trial_context
from agentflow.errors import BadInput

KEY = "sk-very-secret-1234567890"


@pytest.fixture
def models() -> Iterator[ModelServer]:
    """A server for one test."""
    with running() as server:
        yield server


def context_for(server: ModelServer, counts: Counter[str] | None = None, **changes: Any) -> Context:
    """A context whose credentials lead to `server`; reports go to `counts`.

    There are openai, groq, open_router and anthropic; acme, of which nobody says where it
    is; and broken, whose key has a line break.
    """

    def credential(provider: str) -> Credential:
        addresses = {"openai": server.openai_url, "anthropic": server.anthropic_url, "acme": ""}
        addresses |= {"broken": server.openai_url, "groq": server.openai_url, "open_router": server.openai_url}
        if provider not in addresses:
            raise BadInput(f"there is no credential for {provider}")
        key = f"{KEY}\n" if provider == "broken" else KEY
        return Credential(provider, key, base_url=addresses[provider], headers={"x-team": "blue"})

    def report(**reported: float) -> None:
        if counts is not None:
            counts.update(reported)

    return trial_context(**({"credential": credential, "report": report} | changes))


def outputs(block: str, server: ModelServer, inputs: dict[str, Any], **changes: Any) -> list[tuple[str, Any]]:
    """What the block yields."""
    return collect(registry.by_name(block), inputs, context_for(server, **changes))
