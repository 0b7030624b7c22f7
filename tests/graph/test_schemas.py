"""What a graph's users may give it, and what they will get."""

from typing import Any

import pytest

from agentflow.graph.catalogue import BlockKind, BlockSpec, Catalogue, PinSpec
from agentflow.graph.schemas import credentials_input_schema, describe, input_schema, output_schema


def test_each_input_node_is_a_property(catalogue: Catalogue, make_graph: Any) -> None:
    nodes = {
        "a": ("input", {"name": "who", "value": "me", "title": "Who?", "description": "A name", "advanced": True}),
        "b": ("number-input", {"name": "count"}),
        "c": ("output", {"name": "result"}),
        "d": ("unheard-of", {"name": "x"}),
    }
    assert input_schema(make_graph(nodes), catalogue) == {
        "type": "object",
        "properties": {
            "who": {"title": "Who?", "description": "A name", "default": "me", "secret": False, "advanced": True},
            "count": {"type": "integer", "title": "count", "secret": False, "advanced": False},
        },
        "required": ["count"],
    }


@pytest.mark.parametrize("flag", [True, "true", 1])
def test_the_value_of_a_secret_input_is_not_shown(catalogue: Catalogue, make_graph: Any, flag: Any) -> None:
    graph = make_graph({"a": ("input", {"name": "key", "value": "s3cret", "secret": flag})})
    schema = input_schema(graph, catalogue)
    assert schema["properties"]["key"] == {"title": "key", "secret": True, "advanced": False}
    assert schema["required"] == []


@pytest.mark.parametrize("flag", [False, "false", 0, None])
def test_what_is_not_marked_is_neither_secret_nor_advanced(catalogue: Catalogue, make_graph: Any, flag: Any) -> None:
    graph = make_graph({"a": ("input", {"name": "n", "value": 1, "secret": flag, "advanced": flag})})
    shown = input_schema(graph, catalogue)["properties"]["n"]
    assert shown == {"title": "n", "default": 1, "secret": False, "advanced": False}


def test_options_are_the_only_values_of_a_dropdown(catalogue: Catalogue, make_graph: Any) -> None:
    graph = make_graph({"a": ("input", {"name": "size", "options": ["S", "L"]})})
    assert input_schema(graph, catalogue)["properties"]["size"]["enum"] == ["S", "L"]


def test_output_nodes_of_one_name_are_one_property(catalogue: Catalogue, make_graph: Any) -> None:
    nodes = {"a": ("output", {"name": "r", "description": "first"}), "b": ("output", {"name": "r"})}
    assert output_schema(make_graph(nodes), catalogue) == {
        "type": "object",
        "properties": {"r": {"title": "r", "description": "first", "secret": False, "advanced": False}},
        "required": ["r"],
    }


def test_credentials_of_one_kind_are_asked_for_once(catalogue: Catalogue, make_graph: Any) -> None:
    inner = {"nodes": [{"id": "m", "block_id": "model"}]}
    optional = {"metadata": {"credentials_optional": True}}
    graph = make_graph({"a": ("model", {}, optional), "b": ("model", {}, optional)})
    assert list(credentials_input_schema(graph, catalogue)["properties"]) == ["openai_api_key_credentials"]
    assert credentials_input_schema(graph, catalogue)["required"] == []
    graph = make_graph({"a": "model", "b": ("model", {}, optional)})
    assert credentials_input_schema(graph, catalogue)["required"] == ["openai_api_key_credentials"]
    graph = make_graph({"a": ("model", {}, optional)}, sub_graphs=[inner])
    assert credentials_input_schema(graph, catalogue)["required"] == ["openai_api_key_credentials"]


def test_credentials_of_sub_graphs_within_sub_graphs_are_asked_for_too(catalogue: Catalogue, make_graph: Any) -> None:
    inner = {"nodes": [], "sub_graphs": [{"nodes": [{"id": "m", "block_id": "model"}]}]}
    schema = credentials_input_schema(make_graph({"a": "echo"}, sub_graphs=[inner]), catalogue)
    assert schema["required"] == ["openai_api_key_credentials"]


def test_providers_and_types_are_one_key_in_whatever_order_they_are_given(make_graph: Any) -> None:
    def model(id: str, providers: list[str], types: list[str], **more: Any) -> BlockSpec:
        schema = {"credentials_provider": providers, "credentials_types": types, **more}
        return BlockSpec(id, id, BlockKind.AI, {"credentials": PinSpec("credentials", schema=schema)}, {})

    blocks = [
        model("m", ["openai", "groq"], ["oauth2", "api_key"]),
        model("n", ["groq", "openai"], ["api_key", "oauth2"]),
        model("o", ["smtp"], ["user_password"], credentials_optional=True),
    ]
    known = {block.id: block for block in blocks}.get
    schema = credentials_input_schema(make_graph({block.id: block.id for block in blocks}), known)
    assert list(schema["properties"]) == ["groq-openai_api_key-oauth2_credentials", "smtp_user_password_credentials"]
    assert schema["required"] == ["groq-openai_api_key-oauth2_credentials"]


def test_providers_that_are_written_alike_are_asked_for_apart(make_graph: Any) -> None:
    def block(id: str, providers: list[str]) -> BlockSpec:
        schema = {"credentials_provider": providers, "credentials_types": ["api_key"]}
        return BlockSpec(id, id, BlockKind.AI, {"credentials": PinSpec("credentials", schema=schema)}, {})

    blocks = [block("m", ["a-b", "c"]), block("n", ["a", "b-c"]), block("o", ["b-c", "a"])]
    known = {one.id: one for one in blocks}.get
    schema = credentials_input_schema(make_graph({one.id: one.id for one in blocks}), known)
    assert list(schema["properties"]) == ["a-b-c_api_key_credentials", "a-b-c_api_key_credentials_2"]


@pytest.mark.parametrize(
    ("block", "trigger", "person"),
    [("echo", False, False), ("hook", True, False), ("own-hook", True, False), ("ask", False, True)],
)
def test_flags_tell_of_what_is_outside(
    catalogue: Catalogue, make_graph: Any, block: str, trigger: bool, person: bool
) -> None:
    shown = describe(make_graph({"a": "echo", "b": block}), catalogue)
    assert (shown["has_external_trigger"], shown["has_human_in_the_loop"]) == (trigger, person)
    outer = describe(make_graph({"a": "echo"}, sub_graphs=[{"nodes": [{"id": "b", "block_id": block}]}]), catalogue)
    assert (outer["has_external_trigger"], outer["has_human_in_the_loop"]) == (False, False), (
        "each graph tells of its own"
    )


def test_each_output_node_is_a_property(catalogue: Catalogue, make_graph: Any) -> None:
    nodes = {
        "a": ("output", {"name": "sum", "value": 0, "title": "Sum", "description": "All", "advanced": True}),
        "b": ("output", {"name": "key", "value": "s3cret", "secret": True}),
        "c": ("input", {"name": "n"}),
    }
    assert output_schema(make_graph(nodes), catalogue) == {
        "type": "object",
        "properties": {
            "sum": {"title": "Sum", "description": "All", "default": 0, "secret": False, "advanced": True},
            "key": {"title": "key", "secret": True, "advanced": False},
        },
        "required": [],
    }


def test_a_description_carries_the_computed_parts(catalogue: Catalogue, make_graph: Any) -> None:
    graph = make_graph(
        {"h": "hook", "e": "echo"},
        "h.payload>e.input",
        input_schema={"claimed": "by the import"},
        sub_graphs=[{"nodes": [{"id": "m", "block_id": "echo"}]}],
    )
    shown = describe(graph, catalogue)
    assert shown["input_schema"]["properties"] == {}
    assert shown["has_external_trigger"] is True
    assert shown["has_human_in_the_loop"] is False
    assert [len(node["output_links"]) for node in shown["nodes"]] == [1, 0]
    assert shown["nodes"][1]["input_links"] == shown["links"]
    assert shown["sub_graphs"][0]["has_external_trigger"] is False


def test_one_credential_is_asked_for_with_the_scopes_of_all_pins_that_it_is_for(make_graph: Any) -> None:
    def block(id: str, *scopes: str) -> BlockSpec:
        named = {"credentials_scopes": list(scopes)} if scopes else {}
        schema = {"credentials_provider": ["github"], "credentials_types": ["oauth2"], **named}
        return BlockSpec(id, id, BlockKind.AI, {"credentials": PinSpec("credentials", schema=schema)}, {})

    blocks = [block("m"), block("n", "repo", "user"), block("o", "user", "gist")]
    known = {one.id: one for one in blocks}.get
    schema = credentials_input_schema(make_graph({one.id: one.id for one in blocks}), known)
    assert schema["properties"]["github_oauth2_credentials"]["credentials_scopes"] == ["repo", "user", "gist"]
    alone = credentials_input_schema(make_graph({"m": "m"}), known)
    assert "credentials_scopes" not in alone["properties"]["github_oauth2_credentials"]
    assert blocks[1].inputs["credentials"].schema["credentials_scopes"] == ["repo", "user"], "the block keeps its own"
