"""Asks language models on behalf of blocks, and chooses the provider and its endpoint.

Supported are Anthropic and every endpoint with OpenAI's chat completions. The provider is the one that the credentials
pin names; else it follows from the model's name. The name itself is passed on unchanged, because models come and go.
Only the credential, which is the operator's, says where an endpoint is. An address that the user names (`ollama_host`)
passes the guard of web blocks and never gets a key.

This module must be importable without the extra `ai`; code that needs it is in `model_client`.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, Final

import httpx
from pydantic import Field

from agentflow.blocks.ai.conversation import Message, shortened
from agentflow.blocks.ai.model_requests import Answer, Endpoint, Question, TooLong
from agentflow.blocks.base import Block, BlockInput, Context, Tool
from agentflow.blocks.credentials import credentials, provider_of
from agentflow.errors import BadInput
from agentflow.extras import install_command
from agentflow.graph.catalogue import BlockKind, Dependence
from agentflow.graph.costs import Cost, CostType
from agentflow.graph.settings import RetryPolicy
from agentflow.net.ssrf import check_form

DEFAULT_MODEL: Final = "gpt-4o"

OLLAMA: Final = "ollama"

_OLLAMA_HOST: Final = "localhost:11434"
"""Ollama's default address."""

if TYPE_CHECKING:
    _Credentials = dict[str, Any] | None
else:
    _Credentials = credentials("openai", "anthropic", "groq", OLLAMA, "open_router")

_HOSTS: Final = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "groq": "https://api.groq.com/openai/v1",
    "open_router": "https://openrouter.ai/api/v1",
}
"""The addresses of providers whose credential names none."""

_OPENAI_NAMES: Final = ("gpt-", "chatgpt-", "o1", "o3", "o4")
"""Prefixes of OpenAI's own models. An exported graph that uses one may still name an `ollama_host`: it is ignored."""

_SHORTENINGS: Final = 12
"""Each halves the longest text: after twelve, less than a thousandth of it is left."""

_EXTRA: Final = "AI blocks need the extra `ai`; the operator installs it so: "


_UNKNOWN_MODEL: Final = 5
"""Credits for a request to a model whose price is unknown, by the operator's key."""

_COSTS: Final = (
    Cost(100, CostType.COST_USD, filter={"credentials": {"system": True, "provider": "open_router"}}),
    *(
        Cost(_UNKNOWN_MODEL, CostType.TOKENS, filter={"credentials": {"system": True, "provider": provider}})
        for provider in ("openai", "anthropic", "groq")
    ),
)
"""By the operator's key only. OpenRouter says what it took; the others' tokens have prices; Ollama is at home."""


class ModelInput(BlockInput):
    """The pins by which every AI block chooses its model."""

    model: str = Field(DEFAULT_MODEL, description="The model's name, as its provider writes it.")
    credentials: _Credentials = Field(
        None, description="Whose key to use; left out, the provider follows from the model's name."
    )
    max_tokens: int | None = Field(None, ge=1, description="How many tokens the model may write; none: its own limit.")
    ollama_host: str = Field("", description="Where Ollama runs, such as localhost:11434, for models that run there.")


class ModelBlock(Block):
    """The common base of AI blocks."""

    kind = BlockKind.AI
    categories: ClassVar[tuple[str, ...]] = ("AI",)
    lane = "io"
    # An endpoint that is busy (429), broken (5xx) or unreachable mostly recovers. The clients below do not retry.
    retry = RetryPolicy(max_failures=2)
    depends_on = frozenset({Dependence.OUTSIDE, Dependence.CHANCE})
    cacheable = True  # the outside is only asked, not changed
    cost = _COSTS

    @classmethod
    def provider(cls, given: Mapping[str, Any], later: Collection[str]) -> str | None:
        if not {"model", "ollama_host"}.isdisjoint(later):
            return None
        model, host = given.get("model"), given.get("ollama_host")
        return _provider_by_name(DEFAULT_MODEL if model is None else str(model), str(host or ""))


async def ask(
    inputs: ModelInput,
    messages: list[Message],
    context: Context,
    *,
    tools: tuple[Tool, ...] = (),
    json_object: bool = False,
    stream: bool = False,
    shorten: bool = False,
    retry: bool = False,
) -> Answer:
    """Sends a conversation to the model that `inputs` name, and reports what it used, also where it then fails.

    Args:
        inputs: the model and its credential.
        messages: the conversation.
        context: gives the credential; tokens are reported to it.
        tools: see `Question`.
        json_object: see `Question`.
        stream: see `Question`.
        shorten: if the conversation is too long for the model, leave out the middle of the longest texts.
        retry: whether an earlier answer of this model was unusable.

    Raises:
        BadInput: there is no credential; the extra `ai` is not installed; the provider refuses the request or the
            key (`TooLong`: its length), or refuses to answer.
        Transient: the endpoint is busy, broken, unreachable, too slow, or breaks off.
    """
    endpoint = endpoint_of(inputs, context)
    try:
        from agentflow.blocks.ai import model_client  # imported late: it takes a second and needs the extra
    except ImportError:
        raise BadInput(_EXTRA + install_command("ai", for_users=True)) from None
    left = _SHORTENINGS if shorten else 0
    while True:
        context.stop_if_cancelled()
        question = Question(inputs.model.strip(), messages, inputs.max_tokens, tools, json_object, stream)
        try:
            answer = await model_client.send(endpoint, question, lambda used: context.report(**asdict(used)))
        except TooLong:
            shorter = shortened(messages) if left else None
            if shorter is None:
                raise
            messages, left = shorter, left - 1
        else:
            context.report(llm_calls=1, llm_retries=int(retry))
            return answer


def endpoint_of(inputs: ModelInput, context: Context) -> Endpoint:
    """The endpoint of the model that `inputs` name.

    Raises:
        BadInput: there is no credential for its provider, or the provider's address is unknown.
    """
    if not inputs.model.strip():
        raise BadInput("the model's name is empty")
    provider = provider_of(inputs.credentials, _provider_by_name(inputs.model, inputs.ollama_host))
    if provider == OLLAMA and inputs.ollama_host.strip():
        return Endpoint(provider, _ollama_address(inputs.ollama_host), None)
    try:
        credential = context.credential(provider)
    except BadInput:
        if provider == OLLAMA:  # needs no key, so the operator need not configure one
            return Endpoint(provider, _ollama_address(_OLLAMA_HOST), None)
        raise
    address = credential.base_url or _HOSTS.get(provider)
    if not address:
        raise BadInput(f"the credential for {provider} does not say where it is: it needs a base_url")
    return Endpoint(provider, address, credential)


def _provider_by_name(model: str, ollama_host: str) -> str:
    name = model.strip().lower()
    if name.startswith("claude"):
        return "anthropic"
    return OLLAMA if ollama_host.strip() and not name.startswith(_OPENAI_NAMES) else "openai"


def _ollama_address(host: str) -> str:
    """The base address of an Ollama server's OpenAI-compatible API."""
    host = host.strip().rstrip("/").removesuffix("/v1")
    try:
        url = httpx.URL(host if "://" in host else f"http://{host}")
    except httpx.InvalidURL as error:
        raise BadInput(f"ollama_host is not an address: {error}") from None
    check_form(url)
    return f"{url}".rstrip("/") + "/v1"
