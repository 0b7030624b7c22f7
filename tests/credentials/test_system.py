"""A block gets the credentials that its pins declare, and no others; what the operator writes is looked at closely."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from agentflow.blocks import registry
from agentflow.credentials.system import credential_for, nobodys_credentials
from agentflow.errors import BadInput, EngineError
from agentflow.settings import settings

SECRET = "sk-hush"
EVERYTHING = {
    name: {"api_key": SECRET, "base_url": "https://there.test"}
    for name in ("openai", "anthropic", "groq", "ollama", "open_router", "jina", "http", "shop", "openaiX")
} | {
    "smtp": {"username": "u", "password": SECRET},
    "database": {"username": "u", "password": SECRET},
    "host_scoped:there.test": {"headers": {"X-Key": SECRET}},
    "host_scoped": {"api_key": SECRET, "base_url": "https://there.test"},
    "site": {"api_key": SECRET, "base_url": "https://there.test", "type": "host_scoped"},
    "plain": {"headers": {"X-Key": SECRET}, "base_url": "https://there.test"},
}
HOSTS = {"host_scoped:there.test", "host_scoped", "site", "plain"}


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Sets the operator's credentials, as text or as JSON."""

    def sets(value: Any) -> None:
        monkeypatch.setenv("AGENTFLOW_CREDENTIALS", value if isinstance(value, str) else json.dumps(value))
        settings.cache_clear()

    yield sets
    settings.cache_clear()


@pytest.mark.parametrize("block", registry.every(), ids=lambda block: block.name)
def test_a_block_gets_what_its_pins_declare(operator: Callable[[Any], None], block: Any) -> None:
    operator(EVERYTHING)
    schemas = [pin.schema for pin in block.spec().inputs.values()]
    declared = {provider for schema in schemas for provider in schema.get("credentials_provider", ())}
    if any("host_scoped" in schema.get("credentials_types", ()) for schema in schemas):
        declared |= HOSTS
    got, refused = set(), []
    for name in EVERYTHING:
        try:
            credential_for(block.id, name)
        except BadInput as error:
            refused.append(error.message)
        else:
            got.add(name)
    assert got == declared & EVERYTHING.keys()
    assert SECRET not in " ".join(refused)


@pytest.mark.parametrize(("type", "taken"), [(None, True), ("api_key", True), ("host_scoped", False)])
def test_the_type_must_be_one_that_the_pin_takes(operator: Callable[[Any], None], type: Any, taken: bool) -> None:
    operator({"openai": {"api_key": SECRET, "type": type}})
    block = registry.by_name("AITextGenerator").id
    if taken:
        assert credential_for(block, "openai").api_key == SECRET
    else:
        with pytest.raises(BadInput, match="does not take the credential openai"):
            credential_for(block, "openai")


WRONG = [
    ({"openai": {"apikey": SECRET}}, "openai → apikey"),
    ({"openai": {"api_key": [SECRET]}}, "openai → api_key"),
    ({"openai": {"api_key": {"x": SECRET}}}, "openai → api_key"),
    ({"openai": SECRET}, "openai"),
    ({"openai": {"headers": {"X-Key": {"y": SECRET}}}}, "openai → headers → X-Key"),
    ({"openai": {"headers": SECRET}}, "openai → headers"),
    ({"openai": {"api_key": SECRET, "type": "key"}}, "openai → type"),
    ({"OpenAI": {"api_key": SECRET}, "openai": {"api_key": SECRET}}, "the same name"),
    ([SECRET], "AGENTFLOW_CREDENTIALS"),
    (json.dumps({"openai": {"api_key": SECRET}})[:-1], "not JSON"),
    (SECRET, "not JSON"),
]


@pytest.mark.parametrize(("value", "place"), WRONG)
def test_what_is_wrong_is_told_without_its_value(operator: Callable[[Any], None], value: Any, place: str) -> None:
    operator(value)
    with pytest.raises(EngineError) as caught:
        settings()
    assert place in caught.value.message
    seen: BaseException | None = caught.value
    while seen is not None:  # what a traceback shows, and what it would show of the causes
        assert SECRET not in str(seen)
        assert SECRET not in repr(seen)
        assert seen.__suppress_context__ or seen.__context__ is None
        seen = seen.__cause__


def test_no_secret_shows_in_the_settings(operator: Callable[[Any], None]) -> None:
    operator(EVERYTHING)
    assert SECRET not in repr(settings()) + repr(settings().credentials) + str(settings().model_dump())


def test_names_are_found_whatever_their_capitals(operator: Callable[[Any], None]) -> None:
    operator({"OpenAI": {"api_key": SECRET}})
    assert credential_for(registry.by_name("AITextGenerator").id, "openai").api_key == SECRET


def test_names_that_no_block_takes_are_noticed(operator: Callable[[Any], None]) -> None:
    operator(EVERYTHING | {"jina": {"api_key": SECRET, "type": "user_password"}})
    assert sorted(nobodys_credentials(settings().credentials)) == ["jina", "openaix", "shop"]
