"""Defines the values exchanged with a language model: endpoint, question and answer."""

from collections.abc import Callable
from dataclasses import dataclass

from agentflow.blocks.ai.conversation import Message, ToolCall, answered
from agentflow.blocks.base import Tool
from agentflow.blocks.credentials import Credential
from agentflow.errors import BadInput


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The endpoint of a provider.

    Attributes:
        provider: the provider, in lower case.
        address: the API's base address.
        credential: None if a user named the address: no key is sent, and the address must pass the guard.
    """

    provider: str
    address: str
    credential: Credential | None

    @property
    def guarded(self) -> bool:
        """Whether a user named the address."""
        return self.credential is None


@dataclass(frozen=True, slots=True)
class Question:
    """One request to a model.

    Attributes:
        model: the model's name.
        messages: the conversation so far.
        max_tokens: limit of the answer's tokens.
        tools: the tools that the model may call.
        json_object: require a single JSON object, if the endpoint supports that.
        stream: receive the answer in pieces, so that a long text causes no long silence.
    """

    model: str
    messages: list[Message]
    max_tokens: int | None = None
    tools: tuple[Tool, ...] = ()
    json_object: bool = False
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Used:
    """What one request used, as its endpoint counts it; 0 where it does not count. No token is counted twice.

    Attributes:
        input_tokens: read anew, neither from nor into the provider's cache of prompts.
        output_tokens: written, with those of the model's thoughts.
        cache_read_tokens: read from that cache.
        cache_write_tokens: read and put into it.
        cost_usd: dollars, where the provider says so (OpenRouter).
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float = 0.0


Note = Callable[[Used], None]
"""Takes what a request used, whether it then fails or not."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer.

    Attributes:
        text: the text that it wrote.
        calls: the tool calls that it requests.
        cut_off: whether it reached the limit of tokens before it was done.
    """

    text: str
    calls: tuple[ToolCall, ...] = ()
    cut_off: bool = False

    @property
    def message(self) -> Message:
        """The answer as a message of the conversation."""
        return answered(self.text, self.calls)


class TooLong(BadInput):
    """The prompt is longer than the model can read."""
