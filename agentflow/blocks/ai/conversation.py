"""Reads and extends conversations with a language model.

A conversation is a list of messages in the form of OpenAI's chat completions (dictionaries with `role` and `content`),
whatever the provider, because existing graphs store and pass along this form. Nothing here talks to a model.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agentflow.blocks.text import templates
from agentflow.engine.codec import dumps
from agentflow.errors import BadInput

Message = dict[str, Any]

ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool"})

_LEFT_OUT: Final = "\n[…]\n"

_SHORTEST: Final = 200
"""Characters. Messages up to this length are not shortened."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's request to call a tool.

    Attributes:
        id: unique within the conversation.
        name: the tool's name.
        arguments: JSON text, as the model wrote it.
    """

    id: str
    name: str
    arguments: str


def said(role: str, content: str) -> Message:
    """One message."""
    return {"role": role, "content": content}


def filled(text: str, values: Mapping[str, Any]) -> str:
    """`text` with `values` filled in. Without values it is returned as it is, braces included.

    Raises:
        BadInput: `text` is no valid template.
    """
    return templates.fill(text, values) if values else text


def opening(sys_prompt: str, prompt: str) -> list[Message]:
    """The first messages of a conversation; empty texts are left out."""
    return [said(role, text) for role, text in (("system", sys_prompt), ("user", prompt)) if text]


def answered(text: str, calls: Sequence[ToolCall]) -> Message:
    """The model's message, with the tool calls that it requests."""
    message = said("assistant", text)
    if calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    return message


def result_of(call_id: str, value: Any) -> Message:
    """The message with the result of a tool call."""
    return {"role": "tool", "tool_call_id": call_id, "content": value if isinstance(value, str) else dumps(value)}


def read(messages: Iterable[Any], where: str) -> list[Message]:
    """Reads a conversation that a graph passes in; empty entries are left out.

    Args:
        messages: the values that came in.
        where: the pin, for messages.

    Raises:
        BadInput: an entry is no message; the error says which.
    """
    found = []
    for number, message in enumerate(messages):
        if message:
            _check(message, f"{where}[{number}]")
            found.append(message)
    return found


def text_of(message: Message) -> str:
    """The text of a message, with its parts joined if it has several."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part if isinstance(part, str) else part["text"] for part in content)
    return content or ""


def calls_of(message: Message) -> list[ToolCall]:
    """The tool calls of a message, in order."""
    return [
        ToolCall(call["id"], call["function"]["name"], call["function"].get("arguments") or "{}")
        for call in message.get("tool_calls") or ()
    ]


def unanswered(messages: Iterable[Message]) -> list[str]:
    """The ids of the tool calls without a result, in order."""
    waiting: dict[str, None] = {}
    for message in messages:
        if message["role"] == "assistant":
            waiting |= dict.fromkeys(call.id for call in calls_of(message))
        elif message["role"] == "tool":
            waiting.pop(message["tool_call_id"], None)
    return list(waiting)


def shortened(messages: Sequence[Message]) -> list[Message] | None:
    """The conversation without the middle half of its longest text; None if no text can be shortened."""
    longest = max(range(len(messages)), key=lambda number: len(text_of(messages[number])), default=-1)
    text = text_of(messages[longest]) if messages else ""
    if len(text) <= _SHORTEST:
        return None
    quarter = len(text) // 4
    shorter = {**messages[longest], "content": text[:quarter] + _LEFT_OUT + text[-quarter:]}
    return [*messages[:longest], shorter, *messages[longest + 1 :]]


def _check(message: Any, where: str) -> None:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ROLES:
        raise BadInput(f"{where} is no message: it needs a role, one of {', '.join(sorted(ROLES))}")
    content = message.get("content")
    if isinstance(content, list):
        for part in content:
            if not (isinstance(part, str) or (isinstance(part, dict) and isinstance(part.get("text"), str))):
                raise BadInput(f"{where} has content that is not text: only texts can be sent")
    elif content is not None and not isinstance(content, str):
        raise BadInput(f"{where} has content that is not text: only texts can be sent")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise BadInput(f"{where} is the result of a tool call, but has no tool_call_id")
    _check_calls(message.get("tool_calls"), where)


def _check_calls(calls: Any, where: str) -> None:
    if calls is None:
        return
    if not isinstance(calls, list):
        raise BadInput(f"{where} has tool_calls that are not a list")
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if (
            not isinstance(function, dict)
            or not isinstance(call.get("id"), str)
            or not isinstance(function.get("name"), str)
            or not isinstance(function.get("arguments"), str | None)
        ):
            raise BadInput(f"{where} has a tool call without an id, or a function with a name and arguments as text")
