"""What is wrong with a line is told at that line, and the line leaves nothing behind."""

import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from agentflow.blocks import registry
from agentflow.blocks.text.editing import TextSplit
from agentflow.builder import Doubtful, Graph, Node, NoSuchPin, lookup
from agentflow.errors import GraphInvalid, NotFound


@pytest.fixture
def g() -> Graph:
    graph = Graph("g")
    graph.add(TextSplit, "split", text="a b", delimiter=" ")
    graph.add("StepThroughItems", "each")
    graph.add("Note", "note", text="hm")
    return graph


def taking() -> Graph:
    """A graph with an input `a`."""
    graph = Graph("taking")
    graph.output("b", graph.input("a"))
    return graph


def other() -> Node:
    return Graph("other").add(TextSplit)


WRONG: list[tuple[Callable[[Graph], Any], type[Exception], str]] = [
    (
        lambda g: g.node("split").txts,
        NoSuchPin,
        "TextSplit ('split') has no pin 'txts' (did you mean 'texts'?); it",
    ),
    (lambda g: g.node("split").nothing, NoSuchPin, "it takes: text, delimiter, strip; it gives: texts, error"),
    (lambda g: g.node("split").text >> g.node("each").items, NoSuchPin, "has no output pin 'text'"),
    (lambda g: g.node("split").texts >> g.node("each").item, NoSuchPin, "has no input pin 'item'"),
    (lambda g: g.add(TextSplit, txt="a"), NoSuchPin, "has no input pin 'txt' (did you mean 'text'?)"),
    (lambda g: g.add(TextSplit, texts=g.node("each").item), NoSuchPin, "has no input pin 'texts'"),
    (lambda g: g.add("Textsplit"), NotFound, "there is no block 'Textsplit' (did you mean 'TextSplit'?)"),
    (
        lambda g: g.add("FlyToTheMoon"),
        NotFound,
        "FlyToTheMoon is not here; to use it anyway, add Missing('id-1')",
    ),
    (lambda g: g.add("id-1"), NotFound, "FlyToTheMoon is not here"),
    (lambda g: g.add(7), TypeError, "by its class, its name or its id"),
    (lambda g: g.add(TextSplit, "split"), GraphInvalid, "the node id 'split' is taken"),
    (lambda g: g.add("Calculator", a="many"), GraphInvalid, "Calculator ('calculator'): what pin 'a' is given"),
    (lambda g: g.add("Calculator", operation="Mod"), GraphInvalid, 'cannot be taken as one of "Add", '),
    (lambda g: g.add(Graph("other")), TypeError, "`sub_graph` adds a node that runs a graph"),
    (lambda g: g.add(TextSplit, text=object()), GraphInvalid, "pin 'text' is given what is no JSON value"),
    (lambda g: g.add(TextSplit, text=g.node("each")), GraphInvalid, "the node 'each': name one of its pins"),
    (lambda g: g.add(TextSplit, text="a", pins={"text": "b"}), GraphInvalid, "is given twice"),
    (
        lambda g: g.add("FillTextTemplate", values={"a": g.node("each").item}, pins={"values_#_a": 1}),
        GraphInvalid,
        "pin 'values_#_a' of 'fill_text_template' is given twice",
    ),
    (lambda g: g.add(TextSplit, settings={"retry": 5}), GraphInvalid, "settings of 'text_split': retry: Input should"),
    (lambda g: g.add(TextSplit, text=other().texts), GraphInvalid, "belongs to another graph"),
    (lambda g: g.node("note").output >> g.node("split").text, GraphInvalid, "notes never run"),
    (lambda g: g.node("split").texts >> g.node("each"), TypeError, "this is the node 'each': name one of its pins"),
    (lambda g: g.node("split").texts["a_#_b"], GraphInvalid, "cannot be part of a pin's name"),
    (lambda g: g.node("split").texts[""], GraphInvalid, "cannot be part of a pin's name"),
    (lambda g: g.node("split").texts[-1], GraphInvalid, "counted from 0 on"),
    (lambda g: g.node("split").texts[True], GraphInvalid, "an index or a key is needed"),
    (lambda g: g.node("split").texts >> g.node("each").items[10**6], GraphInvalid, "above the limit"),
    (lambda g: list(g.node("split").texts), TypeError, "not iterable"),
    (lambda g: list(g.node("split")), TypeError, "not iterable"),
    (lambda g: g.node("split")[0], TypeError, "had by its name"),
    (lambda g: g.node("nowhere"), NotFound, "no node 'nowhere'"),
    (lambda g: g.input("x", complex), GraphInvalid, "there is no input for <class 'complex'>"),
    (lambda g: g.input("x", TextSplit), GraphInvalid, "TextSplit is no input block"),
    (lambda g: g.input("x", int, default="many"), GraphInvalid, "pin 'value'"),
    (lambda g: Graph("x", version=0), GraphInvalid, "the graph 'x': version:"),
    (lambda g: g.sub_graph(Graph("in"), {"a": 1}), NoSuchPin, "'in' has no input 'a'; it has none"),
    (lambda g: g.sub_graph(taking(), {"a": other().texts}), GraphInvalid, "belongs to another graph: use"),
]


@pytest.mark.parametrize(("line", "kind", "told"), WRONG, ids=[told[:40] for _, _, told in WRONG])
def test_a_wrong_line_is_told_and_changes_nothing(
    g: Graph, line: Callable[[Graph], Any], kind: type[Exception], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "ABSENT", {"id-1": "FlyToTheMoon"})
    before = g.to_json()
    with pytest.raises(kind, match=re.escape(told)):
        line(g)
    assert g.to_json() == before
    g.node("split").texts >> g.node("each").items  # and one can go on
    assert len(g.links) == 1


def test_a_fault_names_its_place(g: Graph) -> None:
    with pytest.raises(GraphInvalid) as error:
        g.add("Calculator", "sum", a="many")
    assert [(problem.node, problem.pin) for problem in error.value.problems] == [("sum", "a")]


def test_half_a_change_is_undone(g: Graph) -> None:
    before = g.to_json()
    each = g.node("each")
    with pytest.raises(GraphInvalid):
        g.add("FillTextTemplate", format="x", values={"a": each.item, "b": each.key}, escape_html=other().texts)
    assert g.to_json() == before
    fill = g.add("FillTextTemplate", format="x", values={"a": each.item, "b": each.key})
    assert len(g.links) == 2
    with pytest.raises(NoSuchPin):
        g._give(fill, {"format": "y", "values": {"c": each.item}, "nothing": 1})
    assert fill.node_values == {"format": "x"}
    assert len(g.links) == 2


def test_what_only_the_whole_shows_is_told_at_the_end_of_with() -> None:
    g = Graph("loop")
    a, b = g.add("StoreValue"), g.add("StoreValue")
    a.output >> b.input
    b.output >> a.input
    with pytest.raises(GraphInvalid) as error, g:
        pass
    assert "the graph 'loop' is not valid:\n  the graph has no starting node" in error.value.message
    assert len(error.value.problems) == 1


def test_an_error_within_with_is_not_hidden_by_the_check() -> None:
    with pytest.raises(ZeroDivisionError), Graph("empty"):
        _ = 1 / 0


def test_what_a_run_needs_is_checked_before_it_is_sent() -> None:
    class Never:
        def submit_inline(self, *arguments: Any, **options: Any) -> None:
            raise AssertionError("nothing is to be sent")

    g = Graph("g")
    g.add(TextSplit, "split", text="a")
    g.check()
    with pytest.raises(GraphInvalid, match=r"node 'split', pin 'delimiter': TextSplit needs 'delimiter'"):
        g.run(Never())


def test_a_link_along_which_nothing_can_pass_is_warned_about() -> None:
    g = Graph()
    empty, request = g.add("ListIsEmpty", list=[]), g.add("SendWebRequest", url="https://example.com/")
    with pytest.warns(Doubtful, match=r"nothing that <pin is_empty of list_is_empty> gives can be taken"):
        empty.is_empty >> request.method
    assert len(g.links) == 1


def test_what_may_pass_is_not_warned_about() -> None:
    g = Graph()
    texts, numbers = g.add(TextSplit, text="1", delimiter=","), g.add("Calculator", operation="Add", a=1)
    empty = g.add("ListIsEmpty", list=[])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        texts.texts >> numbers.b
        empty.is_empty >> numbers.round_result
        texts.texts[0] >> g.add("SendWebRequest", url="https://example.com/").method


def test_a_misspelt_setting_is_warned_about() -> None:
    with pytest.warns(Doubtful, match="'split': there is no setting 'retries'"):
        Graph().add(TextSplit, "split", settings={"retries": 5})
    with pytest.warns(Doubtful, match=r"the graph: there is no setting 'retry\.max'"):
        Graph(settings={"retry": {"max": 5}})


def test_a_sub_graph_that_was_changed_needs_a_new_version() -> None:
    part = Graph("part")
    part.output("it", part.input("it"))
    g = Graph()
    g.sub_graph(part, {"it": 1})
    part.output("more", part.node("it").result)
    with pytest.raises(GraphInvalid, match="the sub-graph 'part' was changed"):
        g.sub_graph(part, {"it": 2})
    assert len(g.nodes) == 1


def test_no_pin_of_ours_is_hidden_by_what_a_node_can_do_itself() -> None:
    own = {name for name in dir(Node) if not name.startswith("__")}
    pins = {pin for block in registry.every() for pin in (*block.spec().inputs, *block.spec().outputs)}
    assert not own & pins
    assert all(name.startswith(("node_", "_")) for name in own)
