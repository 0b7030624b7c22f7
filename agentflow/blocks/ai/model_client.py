"""Sends one request to a language model, and reads its answer.

Conversations are converted to the library's messages, and its answers to ours; every error becomes `BadInput` or
`Transient`. The SDKs' own retries are off, so that only the node's retry policy retries. Needs the extra `ai`: only
`language_models` imports this module, and only when a model is asked.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import cache
from ssl import SSLContext
from typing import Any, Final

import httpx2
from anthropic import AnthropicError, AsyncAnthropic
from openai import AsyncOpenAI, OpenAIError
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic_ai import direct
from pydantic_ai.exceptions import AgentRunError, UserError
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIStreamedResponse
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import RequestUsage

from agentflow.blocks.ai import model_failures
from agentflow.blocks.ai.conversation import Message, ToolCall, calls_of, text_of
from agentflow.blocks.ai.model_requests import Answer, Endpoint, Note, Question, Used
from agentflow.errors import BadInput
from agentflow.net.model_transport import GuardedTransport, measure
from agentflow.settings import settings

CONNECT_SECONDS: Final = 10.0

READ_SECONDS: Final = 300.0
"""Longest silence of an endpoint. An answer that does not stream is silent until the model has written all of it."""

_MOST_TOKENS: Final = 10**12
"""Tokens of one answer. No model handles so many, and the sum of a run must fit the database's integers."""

_MOST_DOLLARS: Final = 10**6
"""Dollars of one answer; more is taken for nonsense."""

_LONGEST_ID: Final = 64
"""Characters of a tool call's id that are kept. Providers use about 30."""

_NO_KEY: Final = "none"
"""The key sent if there is none: the SDKs require one."""


async def send(endpoint: Endpoint, question: Question, note: Note) -> Answer:
    """Sends one request and returns the answer.

    Args:
        endpoint: where it goes.
        question: the request.
        note: gets what it used, once, before anything is raised; an endpoint that tells nothing used nothing.

    Raises:
        BadInput: see `language_models.ask`.
        Transient: see `language_models.ask`.
    """
    try:
        async with _model(endpoint, question.model) as model:
            response = await _response(model, endpoint, question, note)
        if response.finish_reason == "content_filter":
            raise BadInput(f"{endpoint.provider} refused to answer: its content filter objects")
        return _answer(response, question)
    # Besides the libraries' own errors: those that a reply of the wrong shape causes inside them.
    except (
        AgentRunError, UserError, OpenAIError, AnthropicError, httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError,
        AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
    ) as error:  # fmt: skip
        raise model_failures.failure_of(error, endpoint, question.model) from None


def _answer(response: ModelResponse, question: Question) -> Answer:
    """Converts the library's answer to ours.

    Raises:
        TypeError, ValueError: the endpoint sent a value of a wrong type, which the library did not check.
    """
    return Answer(
        _text(response.text or ""),
        tuple(_calls(response, question.messages)),
        response.finish_reason == "length",
    )


def _used(usage: RequestUsage) -> Used:
    """What a request used, without counting a token twice.

    The library's `input_tokens` hold those of the cache for every provider: OpenAI, Groq and OpenRouter count
    `cached_tokens` within `prompt_tokens` (https://platform.openai.com/docs/guides/prompt-caching), and what Anthropic
    counts beside `input_tokens` is added to them (https://docs.claude.com/en/docs/build-with-claude/prompt-caching).
    """
    read, written = _count(usage.cache_read_tokens), _count(usage.cache_write_tokens)
    fresh = max(_count(usage.input_tokens) - read - written, 0)
    return Used(fresh, _count(usage.output_tokens), read, written, _dollars(usage.cost))


def _dollars(given: Any) -> float:
    """A number of dollars; 0 if the endpoint sends nonsense."""
    if isinstance(given, bool) or not isinstance(given, int | float | Decimal):
        return 0.0
    return float(given) if 0 <= given <= _MOST_DOLLARS else 0.0


def _text(given: Any) -> str:
    if not isinstance(given, str):
        raise TypeError(f"a text was expected, not {type(given).__name__}")
    return given


def _count(given: Any) -> int:
    """A count of tokens; 0 if the endpoint sends nonsense, because the answer is valid nevertheless."""
    return given if isinstance(given, int) and not isinstance(given, bool) and 0 <= given <= _MOST_TOKENS else 0


async def _response(model: Model, endpoint: Endpoint, question: Question, note: Note) -> ModelResponse:
    options = ModelSettings(max_retries=0)
    if question.max_tokens is not None:
        options["max_tokens"] = question.max_tokens
    if question.json_object and endpoint.provider != "anthropic":
        options["extra_body"] = {"response_format": {"type": "json_object"}}
    parameters = ModelRequestParameters(
        function_tools=[
            # strict: false, because a strict schema must make every parameter required
            ToolDefinition(
                name=tool.name,
                parameters_json_schema=dict(tool.parameters),
                description=tool.description,
                strict=False,
            )
            for tool in question.tools
        ]
    )
    messages = _history(question.messages)
    if not question.stream:
        response = await direct.model_request(
            model, messages, model_settings=options, model_request_parameters=parameters
        )
        note(_used(response.usage))
        return response
    async with direct.model_request_stream(
        model, messages, model_settings=options, model_request_parameters=parameters
    ) as stream:
        try:
            async for _ in stream:
                pass
        finally:  # also of a stream that breaks off, or that nobody waits for any longer
            response = stream.get()
            note(_used(response.usage))
    if not response.finish_reason:
        raise model_failures.broken_off(endpoint)
    return response


@asynccontextmanager
async def _model(endpoint: Endpoint, name: str) -> AsyncIterator[Model]:
    """The library's model for `endpoint`, with its own connection, because event loops are short-lived."""
    async with _http(endpoint) as http:
        if endpoint.provider == "anthropic":
            yield _anthropic(endpoint, name, http)
        else:
            yield _openai(endpoint, name, http)


def _http(endpoint: Endpoint) -> httpx2.AsyncClient:
    if endpoint.guarded:
        transport = GuardedTransport(settings().http_allow, settings().http_max_bytes, _tls())
        return httpx2.AsyncClient(transport=transport, timeout=_timeouts(), trust_env=False)
    return httpx2.AsyncClient(verify=_tls(), timeout=_timeouts(), event_hooks={"response": [measure]})


def _timeouts() -> httpx2.Timeout:
    return httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)


@cache
def _tls() -> SSLContext:
    """Cached: building it takes tens of milliseconds, and it holds no connection."""
    return httpx2.create_ssl_context()


def _openai(endpoint: Endpoint, name: str, http: httpx2.AsyncClient) -> Model:
    credential = endpoint.credential
    client = AsyncOpenAI(
        api_key=(credential.api_key if credential else "") or _NO_KEY,
        base_url=endpoint.address,
        default_headers=dict(credential.headers) if credential else None,
        http_client=http,
        timeout=_timeouts(),
        max_retries=0,
    )
    # Otherwise a stream that ends in mid-sentence would count as complete.
    profile = OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True)
    if endpoint.provider == "openai" and credential is not None and not credential.base_url:
        return OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client), profile=profile)
    profile["openai_chat_supports_max_completion_tokens"] = False  # the older `max_tokens` works everywhere
    provider = OpenAICompatibleProvider(endpoint.provider, openai_client=client)
    kind = _PricedModel if endpoint.provider == "open_router" else OpenAIChatModel
    return kind(name, provider=provider, profile=profile)


class _PricedStream(OpenAIStreamedResponse):
    """The stream of a `_PricedModel`."""

    def _map_usage(self, response: ChatCompletionChunk) -> RequestUsage:
        return _priced(super()._map_usage(response), response)


class _PricedModel(OpenAIChatModel):
    """A model whose answers say in `usage.cost` what they cost in dollars, always and unasked.

    https://openrouter.ai/docs/use-cases/usage-accounting
    """

    @property
    def _streamed_response_cls(self) -> type[OpenAIStreamedResponse]:
        return _PricedStream

    def _map_usage(self, response: ChatCompletion) -> RequestUsage:
        return _priced(super()._map_usage(response), response)


def _priced(usage: RequestUsage, response: ChatCompletion | ChatCompletionChunk) -> RequestUsage:
    cost = (response.usage.model_extra or {}).get("cost") if response.usage is not None else None
    usage.cost = Decimal(repr(_dollars(cost)))
    return usage


def _anthropic(endpoint: Endpoint, name: str, http: httpx2.AsyncClient) -> Model:
    assert endpoint.credential is not None  # only Ollama works without one
    client = AsyncAnthropic(
        api_key=endpoint.credential.api_key or _NO_KEY,
        base_url=endpoint.address,
        default_headers=dict(endpoint.credential.headers),
        http_client=http,
        timeout=_timeouts(),
        max_retries=0,
    )
    return AnthropicModel(name, provider=AnthropicProvider(anthropic_client=client))


def _history(messages: list[Message]) -> list[ModelMessage]:
    """The conversation in the library's form: consecutive messages to the model become one request."""
    history: list[ModelMessage] = []
    asked: list[ModelRequestPart] = []
    tools: dict[str, str] = {}  # call id → name
    for message in messages:
        if message["role"] == "assistant":
            if asked:
                history.append(ModelRequest(asked))
                asked = []
            tools |= {call.id: call.name for call in calls_of(message)}
            history.append(ModelResponse(list(_said(message))))
        else:
            asked.append(_asked(message, tools))
    return [*history, ModelRequest(asked)] if asked else history


def _asked(message: Message, tools: dict[str, str]) -> ModelRequestPart:
    text = text_of(message)
    if message["role"] == "tool":
        call = message["tool_call_id"]
        if call not in tools:
            raise BadInput(f"the conversation has the result of a tool call {call!r} that nobody made")
        return ToolReturnPart(tools[call], text, call)
    return UserPromptPart(text) if message["role"] == "user" else SystemPromptPart(text)


def _said(message: Message) -> Iterator[ModelResponsePart]:
    if text := text_of(message):
        yield TextPart(text)
    for call in calls_of(message):
        yield ToolCallPart(call.name, call.arguments, call.id)


def _calls(response: ModelResponse, messages: list[Message]) -> Iterator[ToolCall]:
    """The calls of an answer, with ids made unique within the conversation, because some endpoints repeat them."""
    taken: set[Any] = {call.id for message in messages for call in calls_of(message)}
    for part in response.tool_calls:
        name = _text(part.tool_call_id)[:_LONGEST_ID] or "call"
        unique = next(each for each in _numbered(name) if each not in taken)
        taken.add(unique)
        # Not `args_as_json_str`, which hides broken JSON.
        arguments = part.args if isinstance(part.args, str) else part.args_as_json_str()
        yield ToolCall(unique, _text(part.tool_name), arguments)


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1
