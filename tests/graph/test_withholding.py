"""Secrets stay behind, and nothing else does."""

from base64 import b64encode, urlsafe_b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr

from agentflow.blocks.credentials import credentials
from agentflow.blocks.description import pins_of
from agentflow.graph.catalogue import BlockKind, BlockSpec
from agentflow.graph.model import AGENT_BLOCK, Node
from agentflow.graph.withholding import HIDDEN, is_secret_name, without_secret_entries, without_secrets, without_texts


class Account(BaseModel):
    user: str = ""
    pin_code: SecretStr = SecretStr("")
    backup: "Account | None" = None


class Inputs(BaseModel):
    """Of a block that knows secrets of every kind."""

    marked: str = Field("", json_schema_extra={"secret": True})
    hidden: SecretStr | None = None
    several: list[SecretStr] = []
    account: Account | None = None
    accounts: dict[str, Account] = {}
    history: list[Account] = []
    login: credentials("openai") = None  # type: ignore[valid-type]
    text: str = ""


SPEC = BlockSpec("b", "B", BlockKind.STANDARD, pins_of(Inputs, "validation"), {})


def shown(spec: BlockSpec | None = SPEC, block: str = "b", **literals: Any) -> dict[str, Any]:
    return without_secrets(Node(id="n", block_id=block, input_default=literals), spec)


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"marked": "x", "text": "y"}, {"text": "y"}),
        ({"hidden": "x", "several": ["x"], "login": {"id": "x"}}, {}),
        ({"login_#_id": "x", "hidden_$_0": "x", "marked": None}, {}),
        ({"account": {"user": "u", "pin_code": "x"}}, {"account": {"user": "u"}}),
        (
            {"account": {"backup": {"backup": {"user": "u", "pin_code": 1234}}}},
            {"account": {"backup": {"backup": {"user": "u"}}}},
        ),
        ({"accounts": {"a": {"user": "u", "pin_code": "x"}, "b": {}}}, {"accounts": {"a": {"user": "u"}, "b": {}}}),
        ({"history": [{"pin_code": "x"}, {"user": "u"}]}, {"history": [{}, {"user": "u"}]}),
        ({"account": "no account", "accounts": [1], "history": {"x": 1}}, None),
        ({"pin_code": "the schema of no pin says so"}, None),
    ],
)
def test_what_the_schema_marks_stays_behind(given: dict[str, Any], left: dict[str, Any] | None) -> None:
    assert shown(**given) == (given if left is None else left)


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("password", "x", True),
        ("password", 1234, True),
        ("passwords", ["x"], True),
        ("Authorization", "Bearer x", True),
        ("X-API-Key", "x", True),
        ("APIKey", "x", True),
        ("apiKeys", {"a": "b"}, True),
        ("aws_access_key_id", "x", True),
        ("privateKey", "x", True),
        ("github_token", "x", True),
        ("client_secret", None, True),
        ("secret", True, False),
        ("uses_password", False, False),
        ("max_tokens", 100, False),
        ("max_token", 100, False),
        ("token_limit", 4000, False),
        ("token_limit", "4000", True),
        ("tokens", ["a", "b"], False),
        ("keyboard", "x", False),
        ("primary_key", "x", False),
        ("secretary", "x", False),
        ("passwordless", "x", False),
        ("passage", "x", False),
        ("author", "x", False),
        ("", "x", False),
    ],
)
def test_names_tell_of_secrets_at_any_depth(name: str, value: Any, secret: bool) -> None:
    left: dict[str, Any] = {} if secret else {name: value}
    assert without_secret_entries({name: value}) == left
    assert without_secret_entries({"a": [{"b": {name: value}}]}) == {"a": [{"b": left}]}
    assert shown(None, **{f"headers_#_{name}": value} if name else {}) == (
        {f"headers_#_{name}": value} if name and not secret else {}
    )


def test_a_name_is_read_word_by_word() -> None:
    assert is_secret_name("MY_OPENAI_API_KEY2")
    assert not is_secret_name("rapid_api_keyboard")


def test_the_inputs_of_a_sub_graph_are_hidden_as_its_own_schema_says() -> None:
    schema = {
        "properties": {
            "code": {"secret": True, "default": "x", "examples": ["x"], "title": "Code"},
            "api_key": {"default": "x"},
            "topic": {"default": "bees"},
            "odd": 5,
        }
    }
    given = {"code": "x", "api_key": "x", "topic": "bees"}
    literals = {"user_id": "me", "inputs": given, "code": "x", "topic": "wasps", "input_schema": schema}
    left = shown(None, AGENT_BLOCK, **literals, output_schema="odd")
    assert left == {
        "user_id": "",
        "inputs": {"topic": "bees"},
        "topic": "wasps",
        "input_schema": {
            "properties": {
                "code": {"secret": True, "title": "Code"},
                "api_key": {},
                "topic": {"default": "bees"},
                "odd": 5,
            }
        },
        "output_schema": "odd",
    }


@pytest.mark.parametrize(
    ("flag", "hidden"),
    [(True, True), ("true", True), ("1", True), (1, True), (False, False), ("false", False), (0, False), (None, False)],
)
@pytest.mark.parametrize("kind", [BlockKind.INPUT, BlockKind.OUTPUT])
def test_a_secret_input_or_output_is_told_as_its_block_tells_it(kind: BlockKind, flag: Any, hidden: bool) -> None:
    spec = BlockSpec("io", "IO", kind, {}, {})
    literals = {"name": "n", "value": "x", "secret": flag}
    assert ("value" in shown(spec, "io", **literals)) is not hidden
    assert ("value" in shown(None, **literals)) is not hidden, "a block that is not known is believed"
    assert "value" in shown(SPEC, **literals), "elsewhere it is a pin like any other"


@pytest.mark.parametrize(
    ("name", "value", "hidden"),
    [
        ("api_key", "x", True),
        ("OpenAI API key", "x", True),
        ("password", 1234, True),
        ("max_tokens", 5, False),
        ("keyboard", "x", False),
        ("uses_password", True, False),
        (5, "x", False),
    ],
)
def test_an_input_with_the_name_of_a_secret_is_one(name: Any, value: Any, hidden: bool) -> None:
    spec = BlockSpec("io", "IO", BlockKind.INPUT, {}, {})
    assert ("value" in shown(spec, "io", name=name, value=value)) is not hidden
    assert "value" in shown(SPEC, name=name, value=value)


@pytest.mark.parametrize("schema", [None, 5, {"properties": []}, {"properties": {"a": {"anyOf": 5, "items": [1]}}}])
def test_a_schema_that_is_none_hides_nothing(schema: Any) -> None:
    literals = {"inputs": {"a": [{"b": 1}]}, "input_schema": schema}
    assert shown(None, AGENT_BLOCK, **literals) == literals


@given(st.text(min_size=8, max_size=60), st.binary(max_size=7), st.binary(max_size=7), st.booleans())
def test_base64_and_hexadecimal_digits_hide_no_secret(secret: str, before: bytes, behind: bytes, safe: bool) -> None:
    data = secret.encode(errors="surrogatepass")
    encode = urlsafe_b64encode if safe else b64encode
    inside = encode(before + data + behind).decode()
    left = without_texts([inside], [secret])[0]
    beside = len(before) + len(behind) + 6  # bytes: the ends of the secret share their characters with its neighbours
    assert HIDDEN in left
    assert len(left.replace(HIDDEN, "")) <= beside * 4 // 3 + 4
    assert without_texts(encode(data).decode(), [secret]) == HIDDEN
    assert without_texts({data.hex(): (before + data).hex()}, [secret]) == {HIDDEN: before.hex() + HIDDEN}
