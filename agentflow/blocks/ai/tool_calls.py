"""Asks a model which tools to call, and checks the calls before they are made.

The model is told of unknown tools and of arguments that do not fit, and may try again. Failed attempts are then removed
from the conversation, so that every call in it has a result. Pins coerce most values, so only arguments that no pin
could take are refused: a choice that is not offered, or a text where a number is needed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agentflow.blocks.ai.conversation import Message, ToolCall, answered, result_of, said
from agentflow.blocks.ai.language_models import ModelInput, ask
from agentflow.blocks.ai.model_requests import Answer
from agentflow.blocks.base import Context, Tool
from agentflow.engine.codec import dumps
from agentflow.errors import BadInput
from agentflow.graph.json_values import number_if_numeric

_DEEPEST: Final = 10
"""Levels of a schema that are checked. A schema that refers to itself has no end."""

_SHOWN: Final = 100
"""Characters of a wrong value that are shown."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A tool call that can be made.

    Attributes:
        call: the model's request.
        tool: the tool.
        arguments: parameter → value.
    """

    call: ToolCall
    tool: Tool
    arguments: dict[str, Any]

    def inputs(self) -> dict[str, Any]:
        """Input pin of the tool's node → value."""
        return {self.tool.pins[parameter]: value for parameter, value in self.arguments.items()}


@dataclass(frozen=True, slots=True)
class Decision:
    """The model's valid answer.

    Attributes:
        text: the text that it wrote.
        calls: the calls that it requests; none if it is done.
    """

    text: str
    calls: tuple[Chosen, ...]

    @property
    def message(self) -> Message:
        """The answer as a message of the conversation, with only the calls that are made."""
        return answered(self.text, [chosen.call for chosen in self.calls])


async def decide(
    inputs: ModelInput, messages: list[Message], context: Context, attempts: int, *, several: bool
) -> Decision:
    """Asks the model what to do next.

    Args:
        inputs: the model and its credential.
        messages: the conversation.
        context: the block's context; its tools are offered.
        attempts: how many answers to try before giving up; at least one.
        several: whether the model may call several tools at once; if not, only its first call counts.

    Raises:
        BadInput: see `language_models.ask`; or no answer had calls that can be made.
        Transient: see `language_models.ask`.
    """
    attempts = max(attempts, 1)
    told: list[Message] = []
    problems: dict[str, str] = {}
    for attempt in range(attempts):
        answer = await ask(inputs, [*messages, *told], context, tools=context.tools, retry=attempt > 0)
        calls = answer.calls if several else answer.calls[:1]
        chosen, problems = _look_at(calls, context.tools)
        if not problems:
            return Decision(answer.text, tuple(chosen))
        told = _told(answer, calls, problems)
    count = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    raise BadInput(f"the model made no tool call that can be made in {count}: {'; '.join(problems.values())}")


def _look_at(calls: tuple[ToolCall, ...], tools: tuple[Tool, ...]) -> tuple[list[Chosen], dict[str, str]]:
    """The calls that can be made, and for the others: id → reason."""
    by_name = {tool.name: tool for tool in tools}
    chosen, problems = [], {}
    for call in calls:
        try:
            chosen.append(_chosen(call, by_name))
        except ValueError as error:
            problems[call.id] = str(error)
    return chosen, problems


def _chosen(call: ToolCall, by_name: dict[str, Tool]) -> Chosen:
    tool = by_name.get(call.name)
    if tool is None:
        raise ValueError(f"there is no tool {call.name!r}, only {', '.join(sorted(by_name)) or 'none at all'}")
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        raise ValueError(f"the arguments of {call.name} are not valid JSON") from None
    if not isinstance(arguments, dict):
        raise ValueError(f"the arguments of {call.name} are not an object")
    unknown = [name for name in arguments if name not in tool.pins]
    missing = [name for name in tool.parameters.get("required", ()) if name not in arguments]
    if unknown:
        raise ValueError(f"{call.name} has no parameter {', '.join(unknown)}, only {', '.join(tool.pins) or 'none'}")
    if missing:
        raise ValueError(f"the call of {call.name} lacks {', '.join(missing)}")
    for name, value in arguments.items():
        schema = tool.parameters.get("properties", {}).get(name, {})
        if not _fits(value, schema, schema.get("$defs", {})):
            raise ValueError(f"{name} of {call.name} cannot be {dumps(value)[:_SHOWN]}")
    return Chosen(call, tool, arguments)


def _fits(value: Any, schema: Any, definitions: Mapping[str, Any], depth: int = 0) -> bool:
    """Whether a pin of that JSON Schema may take `value`; True if this cannot be decided."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return True
    if isinstance(name := schema.get("$ref"), str):
        return _fits(value, definitions.get(name.rpartition("/")[2]), definitions, depth + 1)
    if isinstance(choices := schema.get("anyOf"), list):
        return any(_fits(value, choice, definitions, depth + 1) for choice in choices)
    if isinstance(offered := schema.get("enum"), list):
        return value in offered
    if "const" in schema:
        return bool(value == schema["const"])
    if schema.get("type") == "null":
        return value is None
    if schema.get("type") in ("number", "integer"):
        return isinstance(number_if_numeric(value), int | float)
    return True


def _told(answer: Answer, calls: tuple[ToolCall, ...], problems: dict[str, str]) -> list[Message]:
    """The failed attempt and what was wrong with it, as messages for the model."""
    results = [
        result_of(call.id, problems.get(call.id, "not called, because another call was wrong")) for call in calls
    ]
    return [
        answered(answer.text, calls),
        *results,
        said("user", "None of this was called. Call again, with what was wrong put right."),
    ]
