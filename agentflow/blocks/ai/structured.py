"""Has a language model answer in a given form: dictionaries with certain keys, or a list of texts."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from pydantic import Field

from agentflow.blocks.ai.conversation import filled, opening, read
from agentflow.blocks.ai.language_models import ModelBlock, ModelInput, ask
from agentflow.blocks.ai.model_answers import ask_for, json_in
from agentflow.blocks.base import BlockOutput, Context, TestVector
from agentflow.engine.codec import dumps
from agentflow.errors import BadInput

_WRAPPED = "list"
"""The key for a list where an endpoint's JSON mode allows only an object."""


class AIStructuredResponseGenerator(ModelBlock):
    id = "ed55ac19-356e-4243-a6cb-bc599e9b716f"
    name = "AIStructuredResponseGenerator"
    description = (
        "Has a language model answer with a dictionary that has the keys you name, or with a list of such. An answer "
        "that does not is sent back to it, with what is wrong."
    )

    class Input(ModelInput):
        prompt: str = Field(description="What to ask for; {{name}} stands for a value of prompt_values.")
        expected_format: dict[str, str] = Field(description="The keys of the answer, each with what it means.")
        list_result: bool = Field(False, description="Whether the answer is a list of such dictionaries.")
        force_json_output: bool = Field(False, description="Hold the model to JSON, where its endpoint can do that.")
        sys_prompt: str = Field("", description="The model's role and rules; may name values too.")
        conversation_history: list[Any] | None = Field([], description="The conversation that the prompt goes on.")
        retry: int = Field(3, description="How many answers to look at before giving up.")
        prompt_values: dict[str, Any] = Field({}, description="The values, by the names that the prompts use.")
        compress_prompt_to_fit: bool = Field(
            True, description="Leave out the middle of the longest texts if the model cannot read so much."
        )

    class Output(BlockOutput):
        response: dict[str, Any] | list[dict[str, Any]] = Field(description="The answer.")
        prompt: list[Any] = Field(description="The messages that were sent to the model.")

    # Examples that need a model are in the tests; these need none.
    vectors = (
        TestVector({"prompt": "Hi", "expected_format": {"a": "b"}}, fails="there is no credential for openai"),
        TestVector({"prompt": "Hi", "expected_format": "text"}, fails="expected_format"),
        TestVector(
            {"prompt": "Hi", "expected_format": {}, "conversation_history": ["Hi"]},
            fails="conversation_history[0] is no message",
        ),
    )

    async def run(self, inputs: Input, context: Context) -> AsyncIterator[tuple[str, Any]]:
        history = read(inputs.conversation_history or [], "conversation_history")
        form = _form(inputs)
        rules = "\n\n".join(part for part in (filled(inputs.sys_prompt, inputs.prompt_values), form) if part)
        messages = [*opening(rules, ""), *history, *opening("", filled(inputs.prompt, inputs.prompt_values))]
        if not messages:
            raise BadInput("nothing is asked: the prompt is empty")
        shorten = inputs.compress_prompt_to_fit
        if not form:
            answer = await ask(inputs, messages, context, shorten=shorten)
            yield "response", {"response": answer.text}
        else:
            response, messages = await ask_for(
                lambda text: _fitting(json_in(text), inputs.expected_format, inputs.list_result),
                inputs, messages, context, inputs.retry, json_object=inputs.force_json_output, shorten=shorten,
            )  # fmt: skip
            yield "response", response
        yield "prompt", messages


class AIListGenerator(ModelBlock):
    id = "9c0b0450-d199-458b-a731-072189dd6593"
    name = "AIListGenerator"
    description = "Has a language model make a list of texts: on a subject, from a source, or both."
    for_each = ("list_item",)

    class Input(ModelInput):
        focus: str | None = Field(None, description="What the list is to be of, such as: names of cities.")
        source_data: str | None = Field(None, description="The text to take the list from; none: the model invents it.")
        max_retries: int = Field(3, description="How many answers to look at before giving up.")
        force_json_output: bool = Field(False, description="Hold the model to JSON, where its endpoint can do that.")

    class Output(BlockOutput):
        generated_list: list[str] = Field(description="The whole list.")
        prompt: list[Any] = Field(description="The messages that were sent to the model.")
        list_item: str = Field(description="Each item of the list, one after another.")

    vectors = (
        TestVector({"focus": " "}, fails="give a focus, or source_data, or both"),
        TestVector({"focus": "planets"}, fails="there is no credential for openai"),
    )

    async def run(self, inputs: Input, context: Context) -> AsyncIterator[tuple[str, Any]]:
        focus, source = (inputs.focus or "").strip(), (inputs.source_data or "").strip()
        if not (focus or source):
            raise BadInput("there is nothing to make a list of: give a focus, or source_data, or both")
        aim = f"Make a list of this: {focus}." if focus else "Make a list of what matters most in the source."
        origin = f"Take the items from this source only:\n\n{source}" if source else "Think the items up yourself."
        form = (
            f'Answer with a JSON object of the form {{"{_WRAPPED}": ["…", "…"]}}, and nothing else.'
            if inputs.force_json_output
            else 'Answer with a JSON list of texts, such as ["…", "…"], and nothing else.'
        )
        items, messages = await ask_for(
            lambda text: _texts(json_in(text)),
            inputs, opening(f"You make lists. {form}", f"{aim}\n\n{origin}"), context, inputs.max_retries,
            json_object=inputs.force_json_output,
        )  # fmt: skip
        yield "generated_list", items
        yield "prompt", messages
        for item in items:
            yield "list_item", item


def _form(inputs: AIStructuredResponseGenerator.Input) -> str:
    """The description of the form for the model; empty if any text will do."""
    if not inputs.expected_format:
        return ""
    keys = "\n".join(f"- {dumps(key)}: {meaning}" for key, meaning in inputs.expected_format.items())
    kind = "one JSON object"
    if inputs.list_result:
        kind = "a JSON list of objects"
        if inputs.force_json_output:
            kind = f'one JSON object {{"{_WRAPPED}": […]}} with a list of objects, each of them'
    return f"Answer with {kind} with these keys, and nothing else:\n{keys}"


def _fitting(value: Any, expected: Mapping[str, str], is_list: bool) -> Any:
    """`value`, if it has the expected form.

    Raises:
        ValueError: it has not; the message says why.
    """
    if not is_list:
        if isinstance(value, list) and len(value) == 1:
            value = value[0]  # the one object asked for, in a list of one
        return _with_keys(value, expected, "it")
    items = _unwrapped(value)
    if isinstance(items, dict):
        items = [items]
    if not isinstance(items, list):
        raise ValueError("it is not a list of objects")
    return [_with_keys(item, expected, f"item {number}") for number, item in enumerate(items, 1)]


def _with_keys(value: Any, expected: Mapping[str, str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not an object")
    missing = [key for key in expected if key not in value]
    if missing:
        raise ValueError(f"{what} lacks the keys {', '.join(missing)}")
    return value


def _texts(value: Any) -> list[str]:
    items = _unwrapped(value)
    if not isinstance(items, list):
        raise ValueError("it is not a list")
    if any(isinstance(item, dict | list) or item is None for item in items):
        raise ValueError("its items are not all texts")
    return [item if isinstance(item, str) else dumps(item) for item in items]


def _unwrapped(value: Any) -> Any:
    """The list inside an object that has nothing else."""
    if isinstance(value, dict) and len(value) == 1:
        [inner] = value.values()
        return inner if isinstance(inner, list) else value
    return value
