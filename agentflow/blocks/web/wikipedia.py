"""Looks up a topic in Wikipedia.

The operator chooses which Wikipedia (language, mirror), with the setting `wikipedia_url`.
"""

from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import quote

from pydantic import Field

from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.errors import BadInput
from agentflow.graph.catalogue import Dependence
from agentflow.net.answers import ask, json_of
from agentflow.settings import settings

_LONGEST_TITLE: Final = 255
"""Bytes of a title: Wikipedia's limit."""

_NEVER_IN_A_TITLE: Final = frozenset("#<>[]|{}\0")


class GetWikipediaSummary(Block):
    id = "f5b0f5d0-1862-4d61-94be-3ad0fa772760"
    name = "GetWikipediaSummary"
    description = "Gives the first paragraph of the Wikipedia page on a topic."
    categories = ("SEARCH",)
    lane = "io"
    depends_on = frozenset({Dependence.OUTSIDE})
    cacheable = True

    class Input(BlockInput):
        topic: str = Field(description="The page's title; Wikipedia follows its own redirects.")

    class Output(BlockOutput):
        summary: str = Field(description="The summary, as plain text.")

    # Examples that need a server are in the tests; these need none.
    vectors = (
        TestVector({"topic": "  "}, fails="the topic is empty"),
        TestVector({"topic": "a|b"}, fails="cannot be a title"),
        TestVector({"topic": "ü" * 128}, fails="longer than 255 bytes"),
        TestVector({}, fails="topic"),
    )

    async def run(self, inputs: Input, context: Context) -> AsyncIterator[tuple[str, Any]]:
        title = _title(inputs.topic)
        url = f"{settings().wikipedia_url.rstrip('/')}/page/summary/{quote(title, safe='')}"
        reply = await ask("Wikipedia", url, {"accept": "application/json"}, missing=_missing(inputs.topic))
        page = json_of("Wikipedia", reply)
        summary = page.get("extract") if isinstance(page, dict) else None
        if not isinstance(summary, str):
            raise BadInput(f"the Wikipedia page on {inputs.topic.strip()!r} has no summary")
        yield "summary", summary


def _missing(topic: str) -> str:
    return f"Wikipedia has no page on {topic.strip()!r}"


def _title(topic: str) -> str:
    """The topic in the form of titles in Wikipedia's URLs.

    Raises:
        BadInput: no page can have this title.
    """
    title = "_".join(topic.split())
    if not title:
        raise BadInput("the topic is empty")
    if set(title) & _NEVER_IN_A_TITLE or title in (".", ".."):
        raise BadInput("the topic has characters that no page has: it cannot be a title")
    if len(title.encode("utf-8", "replace")) > _LONGEST_TITLE:
        raise BadInput(f"the topic is longer than {_LONGEST_TITLE} bytes")
    return title
