"""Searches the web and reads pages, through services that the operator chooses.

The services (settings `search_url` and `reader_url`) answer a GET with text that language models can read. A key for
them (credential `jina`) is optional and is sent only to them: a redirect to another site loses it.
"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import httpx
from pydantic import Field

from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.blocks.credentials import credentials
from agentflow.errors import BadInput
from agentflow.graph.catalogue import Dependence
from agentflow.graph.costs import Cost
from agentflow.net.answers import ask
from agentflow.net.fetching import Limits
from agentflow.net.ssrf import checked_addresses
from agentflow.settings import settings

_PROVIDER: Final = "jina"

if TYPE_CHECKING:
    _Credentials = dict[str, Any] | None
else:
    _Credentials = credentials(_PROVIDER)


class SearchTheWeb(Block):
    id = "87840993-2053-44b7-8da4-187ad4ee518c"
    name = "SearchTheWeb"
    description = "Searches the web and gives the results as text."
    categories = ("SEARCH",)
    lane = "io"
    depends_on = frozenset({Dependence.OUTSIDE})
    cacheable = True
    cost = (Cost(1, filter={"credentials": {"system": True}}),)

    class Input(BlockInput):
        credentials: _Credentials = Field(
            None, description="Whose key the search uses, if any.", json_schema_extra={"credentials_optional": True}
        )
        query: str = Field(max_length=2000, description="What to look for.")

    class Output(BlockOutput):
        results: str = Field(description="What was found, as text with addresses.")

    # Examples that need a server are in the tests; these need none.
    vectors = (
        TestVector({"query": " \n"}, fails="the query is empty"),
        TestVector({"query": " .. "}, fails="nothing that can be searched for"),
        TestVector({"query": "."}, fails="nothing that can be searched for"),
        TestVector({"query": "x" * 2001}, fails="query"),
        TestVector({}, fails="query"),
    )

    async def run(self, inputs: Input, context: Context) -> AsyncIterator[tuple[str, Any]]:
        query = inputs.query.strip()
        if not query:
            raise BadInput("the query is empty")
        if query in (".", ".."):  # in a path these mean another place, even if escaped
            raise BadInput(f"{query!r} is nothing that can be searched for")
        url = f"{settings().search_url.rstrip('/')}/{quote(query, safe='', errors='replace')}"
        reply = await ask("the search service", url, _headers(context))
        yield "results", reply.text


class ExtractWebsiteContent(Block):
    id = "436c3984-57fd-4b85-8e9a-459b356883bd"
    name = "ExtractWebsiteContent"
    description = "Gives the content of a web page: as text without its layout, or unchanged."
    categories = ("SEARCH",)
    lane = "io"
    depends_on = frozenset({Dependence.OUTSIDE})
    cacheable = True
    cost = (Cost(1, filter={"raw_content": False, "credentials": {"system": True}}),)

    class Input(BlockInput):
        credentials: _Credentials = Field(
            None, description="Whose key the reader uses, if any.", json_schema_extra={"credentials_optional": True}
        )
        url: str = Field(description="The page's address, http or https.")
        raw_content: bool = Field(False, description="Fetch the page itself and give it as it stands.")

    class Output(BlockOutput):
        content: str = Field(description="The page's content.")

    # Examples that need a server are in the tests; these need none.
    vectors = (
        TestVector({"url": "http://127.0.0.1:1/", "raw_content": True}, fails="may not be reached from here"),
        TestVector({"url": "http://127.0.0.1:1/"}, fails="may not be reached from here"),
        TestVector({"url": "http://[::1]/"}, fails="may not be reached from here"),
        TestVector({"url": "file:///etc/passwd"}, fails="only http and https"),
        TestVector({"url": "file:///etc/passwd", "raw_content": True}, fails="only http and https"),
        TestVector({"url": "https://example.com:port/"}, fails="not an address that can be fetched"),
        TestVector({"url": "http://xn--a/"}, fails="xn--a is not a host name"),
        TestVector({}, fails="url"),
    )

    async def run(self, inputs: Input, context: Context) -> AsyncIterator[tuple[str, Any]]:
        if inputs.raw_content:
            reply = await ask("the page's server", inputs.url.strip(), missing="there is no such page")
        else:
            page = await _checked(inputs.url.strip())
            reply = await ask(
                "the page reader",
                f"{settings().reader_url.rstrip('/')}/{page}",
                _headers(context),
                missing="there is no such page",
            )
        yield "content", reply.text


async def _checked(address: str) -> str:
    """The page's address, if we may reach it ourselves: a reader in our network must not be sent to forbidden places.

    Raises:
        BadInput: it is not an address, or not a public one.
        Transient: the name of its host cannot be resolved now.
    """
    try:
        url = httpx.URL(address)
        await checked_addresses(url, frozenset(pair.lower() for pair in Limits.from_settings().allow))
    except httpx.InvalidURL as error:
        raise BadInput(f"this is not an address that can be fetched: {error}") from None
    return str(url.copy_with(fragment=None))  # normalised, so that no `..` can leave the reader's path


def _headers(context: Context) -> dict[str, str]:
    try:
        key = context.credential(_PROVIDER).api_key
    except BadInput:  # the services answer without a key too, but less often
        key = ""
    return {"accept": "text/plain", **({"authorization": f"Bearer {key}"} if key else {})}
