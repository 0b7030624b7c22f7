"""What a run must be given, and which values say what an input wants."""

from datetime import date
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.graph.catalogue import Catalogue
from agentflow.graph.plan import compile_plan
from agentflow.graph.run_inputs import misfits, missing_inputs, needed_inputs, says
from agentflow.graph.schemas import input_schema

ID = "00000000-0000-0000-0000-000000000001"


def missing(graph: Any, catalogue: Catalogue, inputs: dict[str, Any], masks: Any = None) -> list[tuple[Any, ...]]:
    needed = needed_inputs(graph, catalogue)
    return [(one.node, one.pin, one.message) for one in missing_inputs(needed, inputs, masks or {})]


def test_every_required_input_that_lacks_is_named_with_title_type_and_description(catalogue, make_graph):
    nodes = {
        "a": ("input", {"name": "who", "title": "Who is it?", "description": "A name."}),
        "b": ("number-input", {"name": "count"}),
        "c": ("number-input", {"name": "kept", "value": 0}),
        "d": ("number-input", {"name": "free"}, {"metadata": {"optional": True}}),
    }
    graph = make_graph(nodes, id=ID)
    assert missing(graph, catalogue, {"other": 1}) == [
        ("a", "value", "the required input 'who' is missing: Who is it? (any value): A name."),
        ("b", "value", "the required input 'count' is missing: count (whole number)"),
    ]
    assert missing(graph, catalogue, {"who": "", "count": 0}) == []


@pytest.mark.parametrize(("flag", "optional"), [(True, True), ("true", True), (1, True), (False, False), (None, False)])
def test_an_input_says_that_it_is_not_required_by_a_flag(catalogue, make_graph, flag, optional):
    graph = make_graph({"a": ("input", {"name": "who"}, {"metadata": {"optional": flag}})}, id=ID)
    assert (missing(graph, catalogue, {}) == []) is optional
    assert input_schema(graph, catalogue)["required"] == ([] if optional else ["who"])


def test_a_null_is_no_value_and_a_mask_is_one(catalogue, make_graph):
    graph = make_graph({"a": ("input", {"name": "who"})}, id=ID)
    ((_, _, message),) = missing(graph, catalogue, {"who": None})
    assert "'who' is null" in message
    assert missing(graph, catalogue, {}, {"a": {"value": False}}) == []
    assert missing(graph, catalogue, {}, {"a": {"value": None}}) != []


def test_a_linked_input_gets_its_value_from_within(catalogue, make_graph):
    nodes = {"a": ("input", {"name": "who"}), "b": ("input", {"name": "next"})}
    graph = make_graph(nodes, "a.result>b.value", id=ID)
    assert input_schema(graph, catalogue)["required"] == ["who"]
    assert [node for node, _, _ in missing(graph, catalogue, {})] == ["a"]


def test_input_nodes_of_one_name_are_missed_once_if_any_of_them_needs_it(catalogue, make_graph):
    nodes = {"a": ("input", {"name": "n", "value": 1}), "b": ("input", {"name": "n"}), "c": ("input", {"name": "n"})}
    graph = make_graph(nodes, id=ID)
    assert [node for node, _, _ in missing(graph, catalogue, {})] == ["b"]
    assert input_schema(graph, catalogue)["required"] == ["n"]


_LITERALS = st.fixed_dictionaries(
    {"name": st.sampled_from("abcd")},
    optional={
        "value": st.sampled_from([None, 0, "", False, [], "x"]),
        "required": st.sampled_from([True, False, None]),
    },
)


@given(data=st.data())
def test_what_the_schema_requires_is_what_a_submission_is_refused_for(catalogue, make_graph, data):
    more = st.sampled_from([{}, {"metadata": {"optional": True}}])
    drawn = data.draw(st.lists(st.tuples(st.sampled_from(["input", "number-input"]), _LITERALS, more), max_size=5))
    nodes = {f"n{number}": one for number, one in enumerate(drawn)}
    ends = st.sampled_from([*nodes, "echo"])
    links = [f"echo.output>{end}.value" for end in data.draw(st.sets(ends, max_size=2)) if end != "echo"]
    graph = make_graph({**nodes, "echo": ("echo", {"input": 1})}, *links, id=ID)
    inputs = data.draw(st.dictionaries(st.sampled_from("abcd"), st.sampled_from([None, 1])))
    named = {graph_node.id: graph_node.input_default["name"] for graph_node in graph.nodes if graph_node.id != "echo"}
    refused = [named[node] for node, _, _ in missing(graph, catalogue, inputs)]
    lacking = [name for name in input_schema(graph, catalogue)["required"] if inputs.get(name) is None]
    assert sorted(refused) == sorted(lacking)


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (str | None, ["", "1.10", 5, True, 1.5], [["a"], {"a": 1}]),
        (int | None, [5, "5", 5.0, "5.0", -0, 10**30, str(10**30)], ["many", 5.5, "5.5", True, [1, 2], {"a": 1}, ""]),
        (float, [5, 5.5, "1e3"], ["x", True, [1.0], {}]),
        (bool, [True, "false", "TRUE", 1, "0", 0.0], ["yes", "", 2, [True], {}]),
        (list[str], [["a"], '["a"]', []], ["a", {"a": 1}, 5]),
        (list[dict[str, Any]] | None, [[{"a": 1}], '[{"a": 1}]'], ["x", '{"a": 1}', 5, {"a": 1}]),
        (dict[str, Any], [{}, '{"a": 1}'], ["x", [1], 5, "[1]"]),
        (date | None, ["2026-11-24"], ["tomorrow", 5, 20261124, ["2026-11-24"], True]),
        (Literal["a", "b"], ["a"], ["c", 1]),
        (Any, [1, "x", [], {}, None], []),
    ],
)
def test_a_given_value_must_say_what_is_wanted_with_nothing_lost_and_nothing_made_up(annotation, good, bad):
    assert [value for value in good if not says(value, annotation)] == []
    assert [value for value in bad if says(value, annotation)] == []


def test_a_value_that_is_none_of_the_choices_is_refused_and_not_repeated(catalogue, make_graph):
    graph = make_graph({"a": ("input", {"name": "size", "options": ["S", "M"]})}, id=ID)
    plan = compile_plan(graph, catalogue)
    (problem,) = misfits(plan, catalogue, {"size": "XXL"})
    assert (problem.node, problem.pin, problem.severity) == ("a", "value", "error")
    assert "2 choices" in problem.message
    assert "XXL" not in problem.message
    assert list(misfits(plan, catalogue, {"size": "M"})) == []
