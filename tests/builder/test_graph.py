"""A graph that is written in Python is the same document as one that is written in JSON."""

from collections.abc import Iterator
from datetime import date
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

import pytest

from agentflow.blocks import registry
from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context
from agentflow.blocks.text.editing import TextSplit
from agentflow.builder import Graph, Missing, Node, Pin
from agentflow.errors import GraphInvalid
from agentflow.graph import model
from agentflow.graph.catalogue import BlockKind
from agentflow.graph.pins import tool_pin


class Shout(Block):
    """A block that nobody has registered."""

    id = "4e0c3a52-6c0e-4d0e-9a75-0c5a3f0a8e41"
    name = "Shout"
    static_output = True

    class Input(BlockInput):
        text: str

    class Output(BlockOutput):
        loud: str

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        yield "loud", inputs.text.upper()


class Size(StrEnum):
    SMALL = "S"
    LARGE = "L"


def ends(graph: Graph) -> list[tuple[str, str, str, str]]:
    return [link.ends for link in graph.links]


def values(graph: Graph) -> dict[str, dict[str, Any]]:
    return {node.node_id: node.node_values for node in graph.nodes}


def test_a_graph_is_built_line_by_line() -> None:
    with Graph("digest", id="0198c5a2-0000-7000-8000-000000000001", settings={"deadline": 60}) as g:
        text = g.input("text", str)
        words = g.add(TextSplit, delimiter=" ", text=text)
        each = g.add("StepThroughItems", "each", node_title="Each word", settings={"timeout": 5})
        words.texts >> each.items
        g.output("words", each.item)
    expected = {
        "id": "0198c5a2-0000-7000-8000-000000000001",
        "name": "digest",
        "settings": {"deadline": 60},
        "nodes": [
            {"id": "text", "block_id": registry.by_name("AgentShortTextInput").id, "input_default": {"name": "text"}},
            {"id": "text_split", "block_id": TextSplit.id, "input_default": {"delimiter": " "}},
            {
                "id": "each",
                "block_id": registry.by_name("StepThroughItems").id,
                "metadata": {"customized_name": "Each word"},
                "settings": {"timeout": 5},
            },
            {"id": "words_out", "block_id": registry.by_name("AgentOutput").id, "input_default": {"name": "words"}},
        ],
        "links": [
            {"source_id": source, "source_name": pin, "sink_id": sink, "sink_name": into, "is_static": static}
            for source, pin, sink, into, static in [
                ("text", "result", "text_split", "text", True),
                ("text_split", "texts", "each", "items", False),
                ("each", "item", "words_out", "value", False),
            ]
        ],
    }
    assert g.as_model() == model.Graph.model_validate(expected)
    assert g.to_json() == model.Graph.model_validate(expected).to_json()


def test_a_block_is_named_by_its_class_its_name_or_its_id() -> None:
    g = Graph()
    nodes = [g.add(block) for block in (TextSplit, TextSplit(), "TextSplit", TextSplit.id)]
    assert all(node.node_block == TextSplit.spec() for node in nodes)
    assert [node.node_id for node in nodes] == ["text_split", "text_split_2", "text_split_3", "text_split_4"]


def test_a_class_that_nobody_registered_is_known_to_the_graph() -> None:
    with Graph() as g:
        loud = g.add(Shout, text="quiet")
        g.output("loud", loud.loud)
    assert g.links[0].is_static
    with pytest.raises(GraphInvalid, match="there is no block"):
        Graph.from_json(g.to_json()).check()


def test_a_block_that_is_missing_has_whatever_pins_are_named() -> None:
    g = Graph()
    elsewhere = g.add(Missing("nobody-has-it"), code="1 + 1")
    elsewhere.stdout >> g.output("printed").value
    assert ends(g) == [("node", "stdout", "printed_out", "value")]
    with pytest.raises(GraphInvalid, match="there is no block 'nobody-has-it'"):
        g.check()


@pytest.mark.parametrize(
    ("kind", "block", "given"),
    [
        (Any, "AgentInput", {}),
        (list[str], "AgentInput", {}),
        (float, "AgentInput", {}),
        (str, "AgentShortTextInput", {}),
        (int, "AgentNumberInput", {}),
        (bool, "AgentToggleInput", {}),
        (date, "AgentDateInput", {}),
        (Literal["a", "b"], "AgentDropdownInput", {"options": ["a", "b"]}),
        (Size, "AgentDropdownInput", {"options": ["S", "L"]}),
        ("AgentLongTextInput", "AgentLongTextInput", {}),
        (type(registry.by_name("AgentFileInput")), "AgentFileInput", {}),
    ],
)
def test_inputs_are_typed_by_python_types(kind: Any, block: str, given: dict[str, Any]) -> None:
    g = Graph()
    pin = g.input("It", kind, title="The thing")
    assert (pin.node.node_block, pin.name) == (registry.by_name(block).spec(), "result")
    assert values(g) == {"it": {"name": "It", **given, "title": "The thing"}}


def test_a_default_is_the_value_of_an_input_as_json_has_it() -> None:
    g = Graph()
    g.input("due", date, default=date(2026, 11, 24))
    g.input("many", int, default=0)
    assert [given["value"] for given in values(g).values()] == ["2026-11-24", 0]


def test_every_kind_of_dynamic_pin_can_be_written_on_both_sides() -> None:
    g = Graph()
    source, sink = g.add("StoreValue", input=1).output, g.add("FillTextTemplate", format="x").values
    pairs = [
        (source["a"], sink["a"], "output_#_a", "values_#_a"),
        (source[0], sink["list"][3], "output_$_0", "values_#_list_$_3"),
        (source.attr("x"), sink.attr("y")["1"], "output_@_x", "values_@_y_#_1"),
    ]
    for given, taken, _, _ in pairs:
        assert given >> taken is taken
    assert [(link.source_name, link.sink_name) for link in g.links] == [pair[2:] for pair in pairs]


def test_a_pin_is_found_by_its_name_whatever_that_is() -> None:
    g = Graph()
    fill = g.add("FillTextTemplate", pins={"format": "{{a}}", "values_#_a": 1})
    assert fill["values_#_a"] == fill.values["a"] == Pin(fill, "values_#_a")
    assert g.add("AgentInput", name="n")["title"].name == "title"
    assert {"values", "format", "output", "error", "node_id"} <= set(dir(fill))
    assert not hasattr(fill, "nothing")


def test_containers_with_pins_are_taken_apart() -> None:
    g = Graph()
    a, b = g.input("a"), g.input("b")
    g.add("FillTextTemplate", "fill", format="x", values={"a": a, "rest": [b["x"], 2, {"c": []}], "d": (1, 2)})
    assert values(g)["fill"] == {
        "format": "x",
        "values_#_rest_$_1": 2,
        "values_#_rest_$_2": {"c": []},
        "values_#_d": [1, 2],
    }
    assert [link.ends for link in g.links] == [
        ("a", "result", "fill", "values_#_a"),
        ("b", "result_#_x", "fill", "values_#_rest_$_0"),
    ]


def test_pins_can_be_given_later_and_a_literal_is_given_anew() -> None:
    g = Graph()
    split = g.add(TextSplit, delimiter=",")
    split["text"] = g.input("text", str)
    split["delimiter"] = ";"
    assert split.node_values == {"delimiter": ";"}
    assert ends(g) == [("text", "result", "text_split", "text")]


def test_links_are_static_where_the_block_or_the_author_says_so() -> None:
    g = Graph()
    store, split = g.add("StoreValue", input="a b"), g.add(TextSplit, delimiter=" ")
    store.output >> split.text
    split.texts.to(g.add("CountItems").collection, static=True)
    split.texts >> g.add("ListIsEmpty").list
    store.output >> split.text  # twice is once
    assert [link.is_static for link in g.links] == [True, True, False]


def test_tool_pins_name_their_sink_and_errors_can_be_linked() -> None:
    g = Graph()
    chooser, tool = g.add("Orchestrator", prompt="Go."), g.add("Calculator", "sum", operation="Add")
    chooser.tools >> tool.a
    chooser.error >> g.output("failed").value
    assert [link.source_name for link in g.links] == [tool_pin("sum", "a"), "error"]


def test_titles_and_settings_can_be_set_later() -> None:
    g = Graph()
    node = g.add(TextSplit, metadata={"position": {"x": 1, "y": 2}}, delimiter=",")
    node.node_title = "Split it"
    node.node_settings = {"retry": {"max_failures": 2}}
    document = g.as_model().nodes[0]
    assert document.metadata == {"position": {"x": 1, "y": 2}, "customized_name": "Split it"}
    assert (node.node_title, document.settings.model_dump()) == ("Split it", {"retry": {"max_failures": 2}})
    assert document.input_default == {"delimiter": ","}


def inner() -> Graph:
    with Graph("count words") as g:
        split = g.add(TextSplit, text=g.input("some text", str), delimiter=g.input("delimiter", str, default=" "))
        g.output("how many", g.add("CountItems", collection=split.texts).count)
    return g


def test_a_sub_graph_has_the_pins_of_its_graph_and_travels_with_it() -> None:
    counting = inner()
    with Graph("outer") as g:
        count = g.sub_graph(counting, {"some text": g.input("text", str), "delimiter": ","}, node_title="Count")
        g.output("words", count["how many"])
    assert count.node_block is not None
    assert count.node_block.kind is BlockKind.AGENT
    given = count.node_values
    assert (given["graph_id"], given["inputs"]) == (str(counting.id), {"delimiter": ","})
    assert given["input_schema"]["required"] == ["some text"]
    assert list(given["output_schema"]["properties"]) == ["how many"]
    assert [part.id for part in g.as_model().sub_graphs] == [counting.id]
    assert ends(g)[0] == ("text", "result", "count_words", "some text")


def test_sub_graphs_of_all_levels_stand_side_by_side_once() -> None:
    deepest = inner()
    middle = Graph("middle")
    middle.output("n", middle.sub_graph(deepest, {"some text": "a b"})["how many"])
    g = Graph("outer")
    for node in (g.sub_graph(middle), g.sub_graph(deepest, {"some text": "a"}), g.sub_graph(middle)):
        assert isinstance(node, Node)
    assert [part.name for part in g.as_model().sub_graphs] == ["middle", "count words"]
    g.check()


def test_a_graph_may_run_itself() -> None:
    with Graph("again") as g:
        text = g.input("text", str)
        g.sub_graph(g, {"text": text})
    assert g.as_model().sub_graphs == []
    assert g.nodes[1].node_values["graph_id"] == str(g.id)


def test_a_literal_in_a_container_with_pins_reaches_a_sub_graph() -> None:
    part = Graph("part")
    part.output("it", part.input("data", dict))
    with Graph() as g:
        node = g.sub_graph(part, {"data": {"a": g.input("a"), "b": 2}})
    assert node.node_values["data_#_b"] == 2
    assert ends(g) == [("a", "result", "part", "data_#_a")]


def test_a_copy_is_built_on_without_changing_what_it_was_made_of() -> None:
    first = inner()
    before = first.to_json()
    second = Graph.from_json(before)
    second.node("text_split")["delimiter"] = ";"
    second.output("texts", second.node("text_split").texts)
    assert first.to_json() == before
    assert len(second.nodes) == len(first.nodes) + 1
    assert Graph.of(first.as_model()).to_json() == before
    assert isinstance(second.id, UUID)
    assert second.id == first.id
