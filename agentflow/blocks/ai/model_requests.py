"""What goes to a language model, to whom, and what comes back?"""

from dataclasses import dataclass

from agentflow.blocks.ai.conversation import Message, ToolCall, answered
from agentflow.blocks.base import Tool
from agentflow.blocks.credentials import Credential
from agentflow.errors import BadInput


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Who is asked.

    Attributes:
        provider: in lower case.
        address: the API's base address.
        credential: None where no key must go along: a user named the address, and it must pass the guard.
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
        max_tokens: how many tokens the answer may have.
        tools: what the model may call.
        json_object: the endpoint is told to write nothing but one JSON object, where it can be told so.
        stream: the answer comes in pieces: none of them is long in coming, however long the text is.
    """

    model: str
    messages: list[Message]
    max_tokens: int | None = None
    tools: tuple[Tool, ...] = ()
    json_object: bool = False
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said.

    Attributes:
        text: what it wrote.
        calls: the tools that it wants called.
        cut_off: it came to the limit of tokens before it was done.
        input_tokens: as the endpoint counts them; 0 where it does not.
        output_tokens: likewise.
    """

    text: str
    calls: tuple[ToolCall, ...] = ()
    cut_off: bool = False
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def message(self) -> Message:
        """It as a message of the conversation."""
        return answered(self.text, self.calls)


class TooLong(BadInput):
    """The prompt is longer than the model can read."""
