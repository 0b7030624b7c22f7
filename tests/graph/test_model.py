"""The document of a graph."""

import json
import math
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agentflow.graph.json_values import MAX_NESTING
from agentflow.graph.model import Graph, Link

OLD_EXPORT = {
    "id": "6f1f65bb-5d73-4b20-a7b8-9a0b0e0d0c0b",
    "version": 3,
    "name": "Greeting",
    "description": None,
    "is_active": True,
    "is_template": False,
    "nodes": [
        {"id": "n1", "block_id": "b1", "input_default": {"name": "who"}, "metadata": {"position": {"x": 1, "y": 2}}},
        {"id": "n2", "block_id": "b2", "metadata": None, "webhook": None},
    ],
    "links": [{"id": "l1", "source_id": "n1", "sink_id": "n2", "source_name": "result", "sink_name": "value"}],
    "subgraphs": [{"id": "6f1f65bb-5d73-4b20-a7b8-9a0b0e0d0c0c", "nodes": [{"id": "m", "block_id": "b"}]}],
}


def linked(*links: dict[str, Any]) -> Graph:
    return Graph.model_validate({"nodes": [{"id": "a", "block_id": "b"}], "links": list(links)})


def link(**changes: Any) -> dict[str, Any]:
    return {"id": "l", "source_id": "a", "sink_id": "a", "source_name": "x", "sink_name": "y", **changes}


def test_an_old_export_is_accepted() -> None:
    graph = Graph.model_validate(OLD_EXPORT)
    assert graph.id == UUID(str(OLD_EXPORT["id"]))
    assert graph.links[0].is_static is False
    assert graph.description == ""
    assert graph.nodes[1].input_default == {}
    assert [inner.nodes[0].id for inner in graph.sub_graphs] == ["m"]


def test_the_new_name_of_sub_graphs_wins_over_the_old_one() -> None:
    graph = Graph.model_validate({"sub_graphs": [{"name": "new"}], "subgraphs": [{"name": "old"}]})
    assert [inner.name for inner in graph.sub_graphs] == ["new"]


def test_groups_of_nodes_that_were_once_called_sub_graphs_are_none() -> None:
    graph = Graph.model_validate({"subgraphs": {"6f1f65bb": ["n1", "n2"]}})
    assert graph.sub_graphs == []


def test_parts_are_those_of_all_levels_in_the_order_of_the_document() -> None:
    tree = {"name": "root", "sub_graphs": [{"name": "a", "subgraphs": [{"name": "b"}, {"name": "c"}]}, {"name": "d"}]}
    assert [part.name for part in Graph.model_validate(tree).parts()] == ["a", "b", "c", "d"]


def test_an_empty_id_is_an_id_left_out() -> None:
    node = {"id": "a", "block_id": "b", "graph_id": "", "webhook_id": ""}
    graph = Graph.model_validate({"id": "", "nodes": [node]})
    assert graph.id.version == 7
    assert (graph.nodes[0].graph_id, graph.nodes[0].webhook_id) == (None, None)
    with pytest.raises(ValidationError, match=r"nodes\.0\.id"):
        Graph.model_validate({"nodes": [{**node, "id": ""}]})


def test_links_that_only_the_nodes_have_are_links() -> None:
    link = {"source_id": "a", "source_name": "x", "sink_id": "b", "sink_name": "y"}
    nodes = [
        {"id": "a", "block_id": "b", "output_links": [link, link]},
        {"id": "b", "block_id": "b", "output_links": None},
    ]
    assert [one.ends for one in Graph.model_validate({"nodes": nodes}).links] == [("a", "x", "b", "y")]
    assert Graph.model_validate({"nodes": nodes, "links": []}).links == []


def test_unknown_fields_are_kept_everywhere() -> None:
    graph = Graph.model_validate(
        {
            "forked_from_id": "x",
            "nodes": [{"id": "a", "block_id": "b", "more": [1], "webhook": None}],
            "links": [link(colour="red")],
        }
    )
    document = graph.model_dump(mode="json")
    assert document["forked_from_id"] == "x"
    assert document["nodes"][0]["more"] == [1]
    assert "webhook" in document["nodes"][0]
    assert document["links"][0]["colour"] == "red"


def test_copies_of_links_in_nodes_are_dropped() -> None:
    copies = {"input_links": [link()], "output_links": [link()]}
    graph = Graph.model_validate({"nodes": [{"id": "a", "block_id": "b", **copies}]})
    assert not {"input_links", "output_links"} & graph.nodes[0].model_dump().keys()


def test_links_with_the_same_four_ends_are_one_and_the_first_stays() -> None:
    graph = linked(link(id="1"), link(id="2", is_static=True), link(id="3", sink_name="z"), link(id="4"))
    assert [(found.id, found.is_static) for found in graph.links] == [("1", False), ("3", False)]


def test_a_link_without_an_id_is_named_by_its_ends() -> None:
    assert linked(link(id=None)).links[0].id == "a.x → a.y"
    assert Link.model_validate({key: end for key, end in link().items() if key != "id"}).id == "a.x → a.y"


def test_a_graph_without_an_id_gets_a_new_one() -> None:
    assert Graph().id != Graph().id
    assert Graph().id.version == 7


@pytest.mark.parametrize(
    ("metadata", "title"),
    [
        ({}, None),
        ({"customized_name": "Mine"}, "Mine"),
        ({"customized_name": " "}, None),
        ({"customized_name": 3}, None),
    ],
)
def test_the_title_of_a_node_is_the_name_that_its_author_gave(metadata: dict[str, Any], title: str | None) -> None:
    graph = Graph.model_validate({"nodes": [{"id": "a", "block_id": "b", "metadata": metadata}]})
    assert graph.nodes[0].title == title


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ([], ()),
        ({"id": "no uuid"}, ("id",)),
        ({"version": 0}, ("version",)),
        ({"version": 2**31}, ("version",)),
        ({"name": "NUL \x00"}, ("name",)),
        ({"nodes": {}}, ("nodes",)),
        ({"nodes": ["x"]}, ("nodes", 0)),
        ({"nodes": [{"block_id": "b"}]}, ("nodes", 0, "id")),
        ({"nodes": [{"id": "", "block_id": "b"}]}, ("nodes", 0, "id")),
        ({"nodes": [{"id": "a\x00", "block_id": "b"}]}, ("nodes", 0, "id")),
        ({"nodes": [{"id": 5, "block_id": "b"}]}, ("nodes", 0, "id")),
        ({"nodes": [{"id": "a", "block_id": "b", "input_default": []}]}, ("nodes", 0, "input_default")),
        ({"nodes": [{"id": "a", "block_id": "b", "settings": {"priority": 12}}]}, ("nodes", 0, "settings", "priority")),
        ({"links": [link(sink_name="")]}, ("links", 0, "sink_name")),
        ({"links": [{"id": "l", "source_id": "a"}]}, ("links", 0, "sink_id")),
    ],
)
def test_a_malformed_document_is_refused_with_the_place(document: Any, place: tuple[str | int, ...]) -> None:
    with pytest.raises(ValidationError) as refused:
        Graph.model_validate(document)
    assert place in [error["loc"] for error in refused.value.errors()]


@pytest.mark.parametrize("field", ["input_default", "an_unknown_field"])
def test_literals_that_nest_too_deep_are_refused(field: str) -> None:
    value: dict[str, Any] = {}
    for _ in range(MAX_NESTING):
        value = {"x": value}
    with pytest.raises(ValidationError, match="nested deeper"):
        Graph.model_validate({"nodes": [{"id": "a", "block_id": "b", field: {"x": value}}]})


def test_numbers_that_json_does_not_have_become_texts() -> None:
    defaults = {"x": [math.nan, {"y": math.inf}], "z": -math.inf}
    graph = Graph.model_validate({"nodes": [{"id": "a", "block_id": "b", "input_default": defaults}]})
    assert graph.nodes[0].input_default == {"x": ["NaN", {"y": "Infinity"}], "z": "-Infinity"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(defaults=st.dictionaries(st.text(), json_values, max_size=4), extra=json_values)
def test_a_document_survives_the_round_trip(defaults: dict[str, Any], extra: Any) -> None:
    document = {
        **OLD_EXPORT,
        "nodes": [{"id": "n1", "block_id": "b", "input_default": defaults, "settings": {"timeout": 5}}],
        "extra": extra,
    }
    graph = Graph.model_validate(document)
    again = Graph.from_json(graph.to_json())
    assert again == graph
    assert again.nodes[0].settings.model_fields_set == {"timeout"}
    assert list(again.nodes[0].input_default) == list(defaults)
    assert json.loads(graph.to_json())["extra"] == extra


def test_what_utf_8_cannot_write_survives_the_round_trip() -> None:
    odd = {"x": "\ud800\x00", "big": 10**40}
    graph = Graph.model_validate({"nodes": [{"id": "a", "block_id": "b", "input_default": odd}]})
    assert graph.to_json().isascii()
    assert Graph.from_json(graph.to_json()).nodes[0].input_default == odd
