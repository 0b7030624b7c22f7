"""AI blocks against endpoints that speak the providers' protocols: what they send, and what failures mean."""

import re
import ssl
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from asking_models import KEY, context_for, models, outputs
from model_server import ModelServer, Reply

from agentflow.blocks import registry
from agentflow.blocks.ai import model_client
from agentflow.blocks.ai.language_models import ModelInput, endpoint_of
from agentflow.blocks.credentials import Credential
from agentflow.blocks.trial import collect, trial_context
from agentflow.errors import BadInput, Transient
from agentflow.graph.model import Graph, Node
from agentflow.graph.needed_credentials import needed
from agentflow.settings import settings

__all__ = ["models"]

BOTH = pytest.mark.parametrize("model", ["gpt-4o", "claude-next"])

STREAMS_OR_NOT = ("AITextGenerator", "AIStructuredResponseGenerator")
"""The one asks for a stream, the other for the whole answer at once."""


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`allow("host:port")` makes the setting, as an operator would."""

    def allowed(pair: str) -> None:
        monkeypatch.setenv("AGENTFLOW_HTTP_ALLOW", pair)
        settings.cache_clear()

    yield allowed
    settings.cache_clear()


def write(server: ModelServer, **inputs: Any) -> list[tuple[str, Any]]:
    return outputs("AITextGenerator", server, {"prompt": "Say hello.", **inputs})


@BOTH
def test_a_text_is_written_from_a_prompt(models: ModelServer, model: str) -> None:
    models.replies.append(Reply("Hello, dear world!"))
    counts: Counter[str] = Counter()
    given = {
        "prompt": "Greet {{who}}.",
        "sys_prompt": "Be {{how}}.",
        "prompt_values": {"who": "them", "how": "kind"},
        "model": model,
        "max_tokens": 50,
    }
    sent = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Greet them."}]
    yielded = outputs("AITextGenerator", models, given, counts=counts)
    assert yielded == [("response", "Hello, dear world!"), ("prompt", sent)]
    assert counts == Counter({"input_tokens": 2, "output_tokens": 3, "llm_calls": 1})
    [asked] = models.asked
    assert (asked.body["model"], asked.body["max_tokens"], asked.body["stream"]) == (model, 50, True)
    assert asked.headers["x-team"] == "blue"
    if model == "gpt-4o":
        assert asked.body["messages"] == sent
        assert asked.headers["authorization"] == f"Bearer {KEY}"
    else:
        assert "Be kind." in str(asked.body["system"])
        assert "Be kind." not in str(asked.body["messages"])
        assert KEY in f"{asked.headers}"


def test_a_prompt_without_values_stays_as_it_is(models: ModelServer) -> None:
    assert write(models, prompt="Use {{braces}} {% here")[0] == ("response", "Use {{braces}} {% here")


@pytest.mark.parametrize(
    ("model", "pin", "path"),
    [
        ("gpt-4o", None, "/v1/chat/completions"),
        ("a-model-that-nobody-knows", None, "/v1/chat/completions"),
        ("Claude-Haiku-9", None, "/v1/messages"),
        ("claude-on-a-gateway", {"provider": "OpenAI", "id": "x"}, "/v1/chat/completions"),
        ("house-model", {"provider": "anthropic"}, "/v1/messages"),
    ],
)
def test_the_credentials_or_the_models_name_choose_the_provider(
    models: ModelServer, model: str, pin: Any, path: str
) -> None:
    write(models, model=model, credentials=pin)
    assert [(asked.path.partition("?")[0], asked.body["model"]) for asked in models.asked] == [(path, model)]


@pytest.mark.parametrize("block", ["AITextGenerator", "AIListGenerator"])
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"model": "gpt-5"},
        {"model": " Claude-Next "},
        {"model": "llama3", "ollama_host": "models.example.com:11434"},
        {"model": "gpt-4o", "ollama_host": "models.example.com:11434"},
        {"model": "llama3", "credentials": {"provider": "Groq"}},
        {"model": "claude-next", "credentials": {"id": "no provider"}},
    ],
)
def test_a_submission_asks_for_the_credential_that_the_block_will_use(block: str, given: dict[str, Any]) -> None:
    known = registry.by_name(block)
    needs = {name: "x" for name, pin in known.spec().inputs.items() if pin.required}
    context = trial_context(credential=lambda provider: Credential(provider, KEY, base_url="http://models.example.com"))
    used = endpoint_of(cast("ModelInput", known.parse({**needs, **given})), context).provider
    graph = Graph(nodes=[Node(id="n", block_id=known.id, input_default=given)])
    assert [need.providers for need in needed(graph, registry.catalogue)] == [[used]]


def test_a_provider_without_an_address_is_named(models: ModelServer) -> None:
    with pytest.raises(BadInput, match=r"credential for acme .* needs a base_url"):
        write(models, credentials={"provider": "acme"})


@BOTH
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 529])
def test_a_busy_or_broken_endpoint_may_work_the_next_time(models: ModelServer, model: str, status: int) -> None:
    for block in STREAMS_OR_NOT:
        models.replies.append(Reply("later, please", status=status, headers={"retry-after": "17"}))
        with pytest.raises(Transient, match=f"{status}.*later, please") as caught:
            outputs(block, models, {"prompt": "Hi", "expected_format": {}, "model": model})
        assert caught.value.after == 17
    assert len(models.asked) == 2  # nobody but the engine tries again


@BOTH
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_is_final_and_does_not_tell_the_key(models: ModelServer, model: str, status: int) -> None:
    for block in STREAMS_OR_NOT:
        models.replies.append(Reply(f"what is this: {KEY}?", status=status))
        with pytest.raises(BadInput, match=r"what is this: …\?") as caught:
            outputs(block, models, {"prompt": "Hi", "expected_format": {}, "model": model})
        assert KEY not in str(caught.value)
        assert caught.value.__cause__ is None
    assert len(models.asked) == 2


@BOTH
def test_what_cannot_be_sent_is_nobody_elses_fault(models: ModelServer, model: str) -> None:
    for pins in ({"prompt": "half a \ud83d"}, {"credentials": {"provider": "broken"}, "model": "gpt-4o"}):
        with pytest.raises(BadInput, match="characters that no text or header may have") as caught:
            write(models, **{"model": model, **pins})
        assert KEY not in str(caught.value)
    assert models.asked == []


def test_a_certificate_that_cannot_be_trusted_is_refused(models: ModelServer) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(Path(__file__).parents[2] / "support" / "tls" / "good.test.pem")
    models.wrap(tls)
    with pytest.raises(BadInput, match=r"the TLS certificate of openai .* cannot be trusted"):
        write(models)


def test_an_empty_purse_is_not_tried_again(models: ModelServer) -> None:
    body = b'{"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}'
    models.replies.append(Reply(status=429, raw=body))
    with pytest.raises(BadInput, match="exceeded your current quota"):
        write(models)


MALFORMED = [
    b'{"choices": [',
    b"<html>down for maintenance</html>",
    b"",
    b"[]",
    b"null",
    b"7",
    b'{"choices": 5}',
    b'{"choices": []}',
    b'{"choices": [{"message": 4, "finish_reason": "stop", "index": 0}]}',
    b'{"choices": [{"message": {"role": "assistant", "content": 5}, "finish_reason": "stop", "index": 0}]}',
    b'{"choices": [{"message": {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": '
    b'{"name": "x", "arguments": 7}}]}, "finish_reason": "tool_calls", "index": 0}]}',
    b'{"choices": [{"message": {"role": "assistant", "tool_calls": [{"id": [1], "type": "function", "function": '
    b'{"name": {}, "arguments": "{}"}}]}, "finish_reason": "tool_calls", "index": 0}]}',
    b'{"type": "message", "content": 3}',
    b'{"type": "message", "role": "assistant", "content": ["text", 5, []], "stop_reason": "end_turn"}',
    b'{"type": "message", "role": "assistant", "content": [{"type": "text", "text": 5}], "stop_reason": "end_turn"}',
    b'{"type": "message", "role": "assistant", "content": [{"type": "tool_use", "id": 5, "name": [], "input": 7}], '
    b'"stop_reason": "tool_use"}',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"choices": ' + b"[" * 100_000,
    b"data: " + b"[" * 100_000 + b"\n\n",
]


@BOTH
@pytest.mark.parametrize("media_type", ["application/json", "text/html", "text/event-stream"])
@pytest.mark.parametrize("raw", MALFORMED)
def test_nonsense_for_an_answer_may_not_come_the_next_time(
    models: ModelServer, model: str, media_type: str, raw: bytes
) -> None:
    for block in STREAMS_OR_NOT:
        models.replies.append(Reply(raw=raw, media_type=media_type))
        with pytest.raises(Transient) as caught:
            outputs(block, models, {"prompt": "Hi", "expected_format": {}, "model": model})
        assert not re.search("has no attribute|NoneType|recursion|pydantic", str(caught.value))


@pytest.mark.parametrize("given", [2**40, 2**62, 2**70])
def test_an_endpoint_that_counts_nonsense_is_taken_for_what_it_says(models: ModelServer, given: int) -> None:
    body = b'{"choices": [{"message": {"role": "assistant", "content": "Fine."}, "finish_reason": "stop", "index": 0}]'
    usage = b'"usage": {"prompt_tokens": %d, "completion_tokens": %d, "total_tokens": 1}' % (given, given)
    rest = b', "id": "x", "object": "chat.completion", "created": 1, "model": "m", ' + usage + b"}"
    models.replies.append(Reply(raw=body + rest))
    counts: Counter[str] = Counter()
    outputs("AIStructuredResponseGenerator", models, {"prompt": "Hi", "expected_format": {}}, counts=counts)
    assert (counts["input_tokens"], counts["output_tokens"]) == (0, 0)


def test_an_endpoint_that_counts_no_tokens_is_taken_for_what_it_says(models: ModelServer) -> None:
    body = b'{"choices": [{"message": {"role": "assistant", "content": "Fine."}, "finish_reason": "stop", "index": 0}]'
    models.replies.append(Reply(raw=body + b', "id": "x", "object": "chat.completion", "created": 1, "model": "m"}'))
    counts: Counter[str] = Counter()
    given = {"prompt": "Hi", "expected_format": {}}
    assert outputs("AIStructuredResponseGenerator", models, given, counts=counts)[0] == (
        "response",
        {"response": "Fine."},
    )
    assert (counts["input_tokens"], counts["output_tokens"], counts["llm_calls"]) == (0, 0, 1)


@BOTH
def test_an_answer_that_breaks_off_is_no_answer(models: ModelServer, model: str) -> None:
    for block in STREAMS_OR_NOT:
        models.replies.append(Reply("one two three four", cut=True))
        with pytest.raises(Transient):
            outputs(block, models, {"prompt": "Hi", "expected_format": {}, "model": model})
    models.replies.append(Reply("one two three four", ends=True))
    with pytest.raises(Transient):
        write(models, model=model)


@BOTH
def test_an_error_in_a_stream_is_told_apart(models: ModelServer, model: str) -> None:
    body = b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "too busy"}}\n\n'
    models.replies.append(Reply(raw=body, media_type="text/event-stream"))
    with pytest.raises(Transient, match="too busy"):
        write(models, model=model)


@BOTH
def test_silence_ends_after_a_while(models: ModelServer, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_client, "READ_SECONDS", 0.2)
    for block in STREAMS_OR_NOT:
        models.replies.append(Reply(silent=True))
        with pytest.raises(Transient, match="did not answer in time"):
            outputs(block, models, {"prompt": "Hi", "expected_format": {}, "model": model})


@BOTH
def test_a_stream_that_falls_silent_in_the_middle_is_given_up(
    models: ModelServer, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_client, "READ_SECONDS", 0.2)
    models.replies.append(Reply("one two three four", stalls=True))
    with pytest.raises(Transient):
        write(models, model=model)


@BOTH
def test_nobody_there_may_be_there_the_next_time(models: ModelServer, model: str) -> None:
    models.stop()
    for block in STREAMS_OR_NOT:
        with pytest.raises(Transient, match="openai" if model == "gpt-4o" else "anthropic"):
            outputs(block, models, {"prompt": "Hi", "expected_format": {}, "model": model})


@BOTH
def test_a_wrong_key_is_refused_by_name_of_the_provider_and_asked_once(models: ModelServer, model: str) -> None:
    models.key = "sk-of-somebody-else"
    for block in STREAMS_OR_NOT:
        with pytest.raises(BadInput, match="answered with status 401: the key … is wrong") as caught:
            outputs(block, models, {"prompt": "Hi", "expected_format": {}, "model": model})
        assert KEY not in str(caught.value)
    models.key = KEY
    assert write(models, model=model)[0] == ("response", "Say hello.")
    assert len(models.asked) == 3


@BOTH
def test_an_answer_that_does_not_stream_is_counted_too(models: ModelServer, model: str) -> None:
    models.replies.append(Reply("one two three"))
    counts: Counter[str] = Counter()
    given = {"prompt": "Count to three.", "expected_format": {}, "model": model}
    [response, _] = outputs("AIStructuredResponseGenerator", models, given, counts=counts)
    assert response == ("response", {"response": "one two three"})
    assert counts == Counter({"input_tokens": 3, "output_tokens": 3, "llm_calls": 1})
    assert "stream" not in models.asked[0].body or models.asked[0].body["stream"] is False


@BOTH
def test_a_content_filter_refuses(models: ModelServer, model: str) -> None:
    models.replies.append(Reply("", finish="content_filter"))
    with pytest.raises(BadInput, match="content filter"):
        write(models, model=model)


def test_an_answer_that_came_to_the_limit_is_given_out_as_it_is(models: ModelServer) -> None:
    models.replies.append(Reply("Once upon a", finish="length"))
    assert write(models)[0] == ("response", "Once upon a")


@pytest.mark.parametrize("host", ["{pair}", "http://{pair}", "http://{pair}/", "http://{pair}/v1/"])
def test_an_ollama_host_is_asked_without_any_key(
    models: ModelServer, host: str, allow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-operator")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-operator")
    allow(models.pair)
    yielded = write(models, model="llama3.2", ollama_host=host.format(pair=models.pair))
    assert yielded[0] == ("response", "Say hello.")
    [asked] = models.asked
    assert asked.path == "/v1/chat/completions"
    assert not {"authorization", "x-team", "openai-organization"} & set(asked.headers)
    assert "operator" not in str(asked.headers)


def test_an_ollama_host_must_be_public(models: ModelServer) -> None:
    for host in (models.pair, "169.254.169.254", "http://[::1]:11434"):
        with pytest.raises(BadInput, match="may not be reached from here"):
            write(models, model="llama3.2", ollama_host=host)
    with pytest.raises(BadInput, match="may not be reached from here"):
        write(models, model="llama3.2", credentials={"provider": "ollama"})
    assert models.asked == []


def test_an_ollama_host_beside_a_model_of_openai_is_not_asked(models: ModelServer) -> None:
    assert write(models, model="gpt-4o", ollama_host="localhost:11434")[0] == ("response", "Say hello.")


def test_the_reply_of_a_users_host_has_a_limit(
    models: ModelServer, allow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTFLOW_HTTP_MAX_BYTES", "5000")
    allow(models.pair)
    models.replies.append(Reply("word " * 2000))
    with pytest.raises(BadInput, match="more than 5000 bytes"):
        write(models, model="llama3.2", ollama_host=models.pair)
    models.replies.append(Reply(raw=b"x", headers={"content-encoding": "gzip"}))
    with pytest.raises(BadInput, match="encoding that was not asked for"):
        write(models, model="llama3.2", ollama_host=models.pair)


def test_the_reply_of_the_operators_endpoint_has_one_too(models: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTFLOW_HTTP_MAX_BYTES", "5000")
    models.replies.append(Reply("word " * 2000))
    with pytest.raises(BadInput, match="more than 5000 bytes"):
        write(models, model="gpt-4o")


def test_a_redirect_is_not_followed(models: ModelServer, allow: Any) -> None:
    allow(models.pair)
    models.replies.append(Reply(raw=b"", status=307, headers={"location": "http://169.254.169.254/v1"}))
    with pytest.raises(BadInput, match="redirects elsewhere"):
        write(models, model="llama3.2", ollama_host=models.pair)
    assert len(models.asked) == 1


def test_without_the_extra_the_blocks_say_what_to_install(models: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "agentflow.blocks.ai.model_client", None)
    monkeypatch.delattr("agentflow.blocks.ai.model_client")
    with pytest.raises(BadInput, match=r"the extra `ai`.* pip install '?pydantic-ai-slim"):
        collect(registry.by_name("AITextGenerator"), {"prompt": "Hi"}, context_for(models))


def test_a_conversation_goes_on(models: ModelServer) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
        {"role": "assistant", "content": "Hi."},
        None,
    ]
    models.replies.append(Reply("Fine."))
    yielded = outputs("AIConversation", models, {"messages": messages, "prompt": "How are you?"})
    sent = [*messages[:3], {"role": "user", "content": "How are you?"}]
    assert yielded == [("response", "Fine."), ("prompt", sent)]
    roles = [(message["role"], message["content"]) for message in models.asked[0].body["messages"]]
    assert roles == [("system", "Be brief."), ("user", "Hello"), ("assistant", "Hi."), ("user", "How are you?")]


@pytest.mark.parametrize(
    ("said", "result", "chosen"),
    [("true", True, ("yes_output", "Y")), (" **Yes.**\n", True, ("yes_output", "Y")),
     ("False", False, ("no_output", {"a": 1})), ("no", False, ("no_output", {"a": 1}))],
)  # fmt: skip
def test_a_condition_is_judged(models: ModelServer, said: str, result: bool, chosen: tuple[str, Any]) -> None:
    models.replies.append(Reply(said))
    given = {"input_value": {"a": 1}, "condition": "has an a", "yes_value": "Y"}
    assert outputs("AICondition", models, given) == [("result", result), chosen]
    assert '{"a":1}' in models.asked[0].body["messages"][-1]["content"].replace(" ", "")


def test_a_verdict_that_is_unclear_is_asked_for_again(models: ModelServer) -> None:
    models.replies.extend([Reply("It depends."), Reply("true")])
    counts: Counter[str] = Counter()
    given = {"input_value": 3, "condition": "is odd"}
    assert outputs("AICondition", models, given, counts=counts) == [("result", True), ("yes_output", 3)]
    assert (counts["llm_calls"], counts["llm_retries"]) == (2, 1)
    assert "not the one word" in models.asked[1].body["messages"][-1]["content"]
    models.replies.extend([Reply("Well.")] * 3)
    with pytest.raises(BadInput, match="no answer that can be used in 3 attempts"):
        outputs("AICondition", models, given)


def test_a_run_that_is_stopped_asks_nobody(models: ModelServer) -> None:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 an Interrupted is no Exception
        collect(registry.by_name("AITextGenerator"), {"prompt": "Hi"}, context_for(models, cancelled=lambda: True))
    assert type(caught.value).__name__ == "Interrupted"
    assert models.asked == []


def test_no_credential_is_said_before_anything_else() -> None:
    with pytest.raises(BadInput, match="there is no credential for openai"):
        collect(registry.by_name("AITextGenerator"), {"prompt": "Hi"}, trial_context())
