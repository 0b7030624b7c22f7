"""Summarises long texts with a language model: in pieces that it can read, whose summaries are summarised again."""

import re
from collections.abc import AsyncIterator
from typing import Any, Final

from pydantic import Field

from agentflow.blocks.ai.conversation import Message, opening
from agentflow.blocks.ai.language_models import ModelBlock, ModelInput, ask
from agentflow.blocks.base import BlockOutput, Context, TestVector
from agentflow.errors import BadInput

_PER_TOKEN: Final = 4
"""Characters per token, roughly, for any model. A number too low only makes more pieces."""

_STYLES: Final = {
    "concise": "a few plain sentences",
    "detailed": "a thorough text that leaves no important point out",
    "bullet points": "a list of bullet points",
    "numbered list": "a numbered list of points",
}

_WHITE_SPACE = re.compile(r"\s")


class AITextSummarizer(ModelBlock):
    id = "a0a69be1-4528-491c-a85a-a4ab6873e3f0"
    name = "AITextSummarizer"
    description = "Has a language model sum up a text of any length."
    categories = ("AI", "TEXT")

    class Input(ModelInput):
        text: str = Field(description="The text.")
        focus: str = Field("general information", description="What the summary is to be about.")
        style: str = Field(
            "concise", description=f"How to write it: {', '.join(_STYLES)}; or in words of your own, such as: a poem."
        )
        max_tokens: int | None = Field(
            4096, ge=1, description="Tokens, about: the longest piece that is summed up at once, and its summary."
        )
        chunk_overlap: int = Field(
            100, ge=0, description="Tokens, about: what a piece repeats of the one before; at most a quarter."
        )

    class Output(BlockOutput):
        summary: str = Field(description="The summary.")
        prompt: list[Any] = Field(description="The messages that were sent to the model last.")

    # Examples that need a model are in the tests; these need none.
    vectors = (
        TestVector({"text": " \n"}, fails="there is no text to sum up"),
        TestVector({"text": "Long.", "chunk_overlap": -1}, fails="chunk_overlap"),
        TestVector({"text": "Long."}, fails="there is no credential for openai"),
    )

    async def run(self, inputs: Input, context: Context) -> AsyncIterator[tuple[str, Any]]:
        limit = inputs.max_tokens or 4096
        if not inputs.text.strip():
            raise BadInput("there is no text to sum up")
        size, overlap = limit * _PER_TOKEN, inputs.chunk_overlap * _PER_TOKEN
        text = inputs.text
        while len(pieces := spans(text, size, overlap)) > 1:
            shorter = "\n\n".join([(await _sum_up(text[start:end], inputs, context))[0] for start, end in pieces])
            if len(shorter) >= len(text):
                raise BadInput("the summaries of the text's pieces are no shorter than the text: raise max_tokens")
            text = shorter
        summary, messages = await _sum_up(text, inputs, context)
        yield "summary", summary
        yield "prompt", messages


async def _sum_up(piece: str, inputs: AITextSummarizer.Input, context: Context) -> tuple[str, list[Message]]:
    style = _STYLES.get(inputs.style.strip().lower(), inputs.style.strip() or _STYLES["concise"])
    focus = inputs.focus.strip()
    aim = f"Write {style}. " + (f"What matters is this: {focus}. " if focus else "")
    rules = f"You sum up texts. {aim}Answer with the summary only, in the language of the text."
    messages = opening(rules, f"Sum up this text:\n\n{piece}")
    answer = await ask(inputs, messages, context, stream=True)
    return answer.text, messages


def spans(text: str, size: int, overlap: int) -> list[tuple[int, int]]:
    """Start and end of overlapping pieces of `text`, each cut at white space if its second half has some.

    Args:
        text: any length.
        size: maximum characters of a piece; at least 4.
        overlap: characters that a piece repeats of the previous one; at most a quarter of `size` is repeated, which
            bounds the number of pieces.
    """
    found = []
    start = 0
    while len(text) - start > size:
        end = _cut(text, start, size)
        found.append((start, end))
        start = end - min(overlap, size // 4)
    return [*found, (start, len(text))]


def _cut(text: str, start: int, size: int) -> int:
    spaces = [found.end() for found in _WHITE_SPACE.finditer(text, start + size // 2, start + size)]
    return spaces[-1] if spaces else start + size
