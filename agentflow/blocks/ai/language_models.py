"""How does a block ask a language model, and which one?

Any endpoint that speaks OpenAI's chat completions, and Anthropic. The provider is the one that the credentials pin
names, else it follows from the model's name; the name itself is passed on as it is, because graphs in the wild name
models that come and go. Where the endpoint is, only its credential says, which is the operator's; an address that the
user names (`ollama_host`) is held to the rules of web blocks and never gets a key.

This module must be importable without the extra `ai`: what needs it stands in `model_client`.
"""

from collections.abc import Collection, Mapping
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
from agentflow.graph.settings import RetryPolicy
from agentflow.net.ssrf import check_form

DEFAULT_MODEL: Final = "gpt-4o"

OLLAMA: Final = "ollama"

_OLLAMA_HOST: Final = "localhost:11434"
"""Where Ollama listens if nobody says otherwise."""

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
"""Where providers are whose credential names no address."""

_OPENAI_NAMES: Final = ("gpt-", "chatgpt-", "o1", "o3", "o4")
"""How the names of OpenAI's own models begin: an exported graph that uses one may name an Ollama host all the same."""

_SHORTENINGS: Final = 12
"""Each takes half of the longest text away: after twelve, a thousandth of it is left."""

_EXTRA: Final = "AI blocks need the extra `ai`; the operator installs it so: "


class ModelInput(BlockInput):
    """The pins by which every AI block chooses its model."""

    model: str = Field(DEFAULT_MODEL, description="The model's name, as its provider writes it.")
    credentials: _Credentials = Field(
        None, description="Whose key to use; left out, the provider follows from the model's name."
    )
    max_tokens: int | None = Field(None, ge=1, description="How many tokens the model may write; none: its own limit.")
    ollama_host: str = Field("", description="Where Ollama runs, such as localhost:11434, for models that run there.")


class ModelBlock(Block):
    """What AI blocks have in common."""

    kind = BlockKind.AI
    categories: ClassVar[tuple[str, ...]] = ("AI",)
    lane = "io"
    # A model's endpoint that is busy (429), broken (5xx) or gone mostly comes back. No client below tries again.
    retry = RetryPolicy(max_failures=2)
    depends_on = frozenset({Dependence.OUTSIDE, Dependence.CHANCE})
    cacheable = True  # the outside is asked, and not changed

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
    """Sends a conversation to the model that `inputs` name, and counts the tokens.

    Args:
        inputs: which model, whose key.
        messages: the conversation.
        context: where the key comes from, and where the tokens are reported.
        tools: see `Question`.
        json_object: see `Question`.
        stream: see `Question`.
        shorten: leave out the middle of the longest texts, if the conversation is longer than the model can read.
        retry: an earlier answer of this model was of no use.

    Raises:
        BadInput: there is no credential; the extra `ai` is not installed; the provider refuses the request or the
            key (`TooLong`: its length), or refuses to answer.
        Transient: the endpoint is busy, broken, cannot be reached, does not answer in time or breaks off.
    """
    endpoint = endpoint_of(inputs, context)
    try:
        from agentflow.blocks.ai import model_client  # here, because it takes a second and needs the extra
    except ImportError:
        raise BadInput(_EXTRA + install_command("ai", for_users=True)) from None
    left = _SHORTENINGS if shorten else 0
    while True:
        context.stop_if_cancelled()
        question = Question(inputs.model.strip(), messages, inputs.max_tokens, tools, json_object, stream)
        try:
            answer = await model_client.send(endpoint, question)
        except TooLong:
            shorter = shortened(messages) if left else None
            if shorter is None:
                raise
            messages, left = shorter, left - 1
        else:
            context.report(
                input_tokens=answer.input_tokens,
                output_tokens=answer.output_tokens,
                llm_calls=1,
                llm_retries=int(retry),
            )
            return answer


def endpoint_of(inputs: ModelInput, context: Context) -> Endpoint:
    """Where the model is that `inputs` name.

    Raises:
        BadInput: there is no credential for its provider, or nobody says where that provider is.
    """
    if not inputs.model.strip():
        raise BadInput("the model's name is empty")
    provider = provider_of(inputs.credentials, _provider_by_name(inputs.model, inputs.ollama_host))
    if provider == OLLAMA and inputs.ollama_host.strip():
        return Endpoint(provider, _ollama_address(inputs.ollama_host), None)
    try:
        credential = context.credential(provider)
    except BadInput:
        if provider == OLLAMA:  # it needs no key, so its operator need not name one
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
