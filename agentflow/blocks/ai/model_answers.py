"""Gets an answer of a given form from a language model.

The model is asked again, and told what was wrong, until its answer can be read. Failures of the endpoint are raised at
once and not counted here, because the node's retry policy handles them.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from agentflow.blocks.ai.conversation import Message, said
from agentflow.blocks.ai.language_models import ModelInput, ask
from agentflow.blocks.base import Context
from agentflow.errors import BadInput

Value = TypeVar("Value")

_FENCE = "```"


async def ask_for(
    read: Callable[[str], Value],
    inputs: ModelInput,
    messages: list[Message],
    context: Context,
    attempts: int,
    *,
    json_object: bool = False,
    shorten: bool = False,
) -> tuple[Value, list[Message]]:
    """The result of `read` for the model's answer, and the messages that led to that answer.

    Args:
        read: raises ValueError if the answer is unusable; the model is told its message.
        inputs: the model and its credential.
        messages: the conversation.
        context: the block's context.
        attempts: how many answers to try before giving up; at least one.
        json_object: see `model_requests.Question`.
        shorten: see `language_models.ask`.

    Raises:
        BadInput: see `language_models.ask`; or no answer could be read.
        Transient: see `language_models.ask`.
    """
    attempts = max(attempts, 1)
    problem = ""
    conversation = messages
    for attempt in range(attempts):
        answer = await ask(inputs, conversation, context, json_object=json_object, shorten=shorten, retry=attempt > 0)
        try:
            return read(answer.text), conversation
        except ValueError as error:
            problem = str(error)
        if answer.cut_off:
            problem += "; it was cut off because it was too long"
        told = said("user", f"This answer cannot be used: {problem}. Answer again, in the form that was asked for.")
        conversation = [*messages, answer.message, told]
    count = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    raise BadInput(f"the model gave no answer that can be used in {count}: {problem}")


def json_in(text: str) -> Any:
    """The JSON object or list in a model's answer; it may be in a code fence or between sentences.

    Raises:
        ValueError: there is none.
    """
    problem = "it has no JSON in it"
    for start in _starts(text):
        try:
            return json.JSONDecoder().raw_decode(text, start)[0]
        except json.JSONDecodeError as error:
            problem = f"its JSON is not valid: {error.msg} at character {error.pos - start + 1}"
        except RecursionError:
            problem = "its JSON is nested too deep"
    raise ValueError(problem)


def _starts(text: str) -> Iterator[int]:
    """The places where JSON may begin: inside the first fence, then at the first bracket."""
    fence = text.find(_FENCE)
    for begin in ([fence + len(_FENCE)] if fence >= 0 else []) + [0]:
        brackets = [place for place in (text.find("{", begin), text.find("[", begin)) if place >= 0]
        if brackets:
            yield min(brackets)
