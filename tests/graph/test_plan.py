"""The plan: what workers know of a graph."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow.errors import GraphInvalid
from agentflow.graph.catalogue import Catalogue
from agentflow.graph.model import Graph
from agentflow.graph.plan import Plan, compile_plan

NODES: dict[str, Any] = {
    "in": ("input", {"name": "who", "value": "me"}),
    "a": "adder",
    "b": ("echo", {"data": [1, {"x": None}]}, {"metadata": {"customized_name": "Bee"}}),
    "out": ("output", {"name": "it"}),
    "note": ("note", {"text": "remember"}),
}


@pytest.fixture
def plan(catalogue: Catalogue, make_graph: Any) -> Plan:
    links = ["in.result>a.a", "b.output=>a.b", "a.result>b.input", "a.error>out.value", "b.output>a.a"]
    return compile_plan(make_graph(NODES, *links), catalogue)


def test_numbers_are_the_places_in_the_document(plan: Plan) -> None:
    assert [(node.number, node.id) for node in plan.nodes] == list(enumerate(NODES))
    assert {link.number: (link.source, link.sink) for node in plan.nodes for link in node.links} == {
        0: (0, 1),
        1: (2, 1),
        2: (1, 2),
        3: (1, 3),
        4: (2, 1),
    }


def test_links_leave_a_node_in_the_order_of_the_document(plan: Plan) -> None:
    assert [link.number for link in plan.node("b").links] == [1, 4]


def test_links_out_of_a_static_output_block_are_static(plan: Plan) -> None:
    assert [link.static for link in plan.node("in").links] == [True]


def test_a_pin_has_a_static_link_if_one_of_its_links_is_static(plan: Plan) -> None:
    assert plan.node("a").pins == {"a": True, "b": True}
    assert plan.node("b").pins == {"input": False}
    assert plan.node("a").has_static
    assert not plan.node("b").has_static


def test_a_node_needs_each_linked_pin_once_however_many_links_it_has(plan: Plan) -> None:
    assert plan.node("a").need == 2


def test_failures_are_handled_where_a_link_leaves_the_error_pin(plan: Plan) -> None:
    assert [node.id for node in plan.nodes if node.handles_errors] == ["a"]


def test_titles_and_names(plan: Plan) -> None:
    assert plan.node("b").title == "Bee"
    assert plan.node("a").title == "Adder"
    assert [node.id for node in plan.inputs["who"]] == ["in"]
    assert [node.id for node in plan.outputs["it"]] == ["out"]
    assert plan.node("b").name is None


@pytest.mark.parametrize(
    ("nodes", "links", "starting"),
    [
        ({"a": "echo"}, [], ["a"]),
        ({"a": "echo", "b": "echo"}, ["a.output>b.input"], ["a"]),
        ({"a": "echo"}, ["a.output>a.input"], []),
        ({"n": "note", "a": "echo"}, [], ["a"]),
        ({"i": ("input", {"name": "i"}), "a": "echo"}, ["a.output>i.value", "i.result>a.input"], ["i"]),
    ],
)
def test_starting_nodes(
    catalogue: Catalogue, make_graph: Any, nodes: dict[str, Any], links: list[str], starting: list[str]
) -> None:
    plan = compile_plan(make_graph(nodes, *links), catalogue)
    assert [node.id for node in plan.starting()] == starting


def test_the_first_delivery_to_a_linked_input_node_goes_to_its_second_execution(
    catalogue: Catalogue, make_graph: Any
) -> None:
    nodes = {"i": ("input", {"name": "i"}), "j": ("input", {"name": "j"}), "a": "echo"}
    plan = compile_plan(make_graph(nodes, "a.output>i.value", "j.result>a.input"), catalogue)
    assert [node.base for node in plan.nodes] == [2, 1, 1]


@pytest.mark.parametrize("pin", ["tools", "tools_^_search_~_query", "tools_^_b_~_input"])
def test_a_tool_pin_is_resolved_to_its_sink(catalogue: Catalogue, make_graph: Any, pin: str) -> None:
    plan = compile_plan(make_graph({"t": "tooler", "b": "echo"}, f"t.{pin}>b.input"), catalogue)
    assert plan.node("t").links[0].source_pin == "tools_^_b_~_input"


def test_notes_have_no_links(catalogue: Catalogue, make_graph: Any) -> None:
    plan = compile_plan(make_graph({"n": "note", "a": "echo"}, "n.output>a.input", "a.output>n.text"), catalogue)
    assert [node.links for node in plan.nodes] == [(), ()]
    assert not plan.node("a").pins


@pytest.mark.parametrize(
    ("masks", "starting", "pins_of_b"),
    [
        ({}, ["a"], {"input", "data"}),
        ({"b": {"input": 1}}, ["a"], {"data"}),
        ({"b": {"input": 1, "data": None}}, ["a", "b"], set()),
        ({"b": {"nothing": 1}, "nobody": {"input": 2}}, ["a"], {"input", "data"}),
    ],
)
def test_masked_pins_are_not_waited_for(
    catalogue: Catalogue, make_graph: Any, masks: dict[str, Any], starting: list[str], pins_of_b: set[str]
) -> None:
    graph = make_graph({"a": "echo", "b": "echo"}, "a.output>b.input", "a.error=>b.data")
    plan = compile_plan(graph, catalogue).masked(masks)
    assert [node.id for node in plan.starting()] == starting
    assert set(plan.node("b").pins) == pins_of_b
    assert {link.sink_pin for link in plan.node("a").links} == pins_of_b
    assert plan.node("a").handles_errors


@pytest.mark.parametrize(
    ("masked", "left"),
    [
        ("values", {"values_x", "items"}),
        ("values_#_a", {"values_#_b", "values_x", "items"}),
        ("values_#_a_$_0", {"values_#_a", "values_#_b", "values_x", "items"}),
        ("values_", {"values_#_a", "values_#_a_$_0", "values_#_b", "values_x", "items"}),
        ("items", {"values_#_a", "values_#_a_$_0", "values_#_b", "values_x"}),
        ("items_$_0", {"values_#_a", "values_#_a_$_0", "values_#_b", "values_x", "items"}),
    ],
)
def test_a_mask_on_a_container_says_all_that_is_in_it(
    catalogue: Catalogue, make_graph: Any, masked: str, left: set[str]
) -> None:
    pins = ["values_#_a", "values_#_a_$_0", "values_#_b", "values_x", "items"]
    graph = make_graph({"a": "echo", "b": "adder"}, *(f"a.output>b.{pin}" for pin in pins))
    plan = compile_plan(graph, catalogue).masked({"b": {masked: None}})
    assert set(plan.node("b").pins) == left
    assert {link.sink_pin for link in plan.node("a").links} == left


def test_a_masked_input_node_starts_over_at_its_first_index(catalogue: Catalogue, make_graph: Any) -> None:
    graph = make_graph({"i": ("input", {"name": "i"}), "a": "echo"}, "a.output>i.value")
    assert compile_plan(graph, catalogue).masked({"i": {"value": 3}}).node("i").base == 1


def test_a_plan_without_masks_is_itself(plan: Plan) -> None:
    assert plan.masked({"b": {"unlinked": 1}}) is plan


def test_settings_of_a_node_are_the_effective_ones(catalogue: Catalogue, make_graph: Any) -> None:
    nodes = {"a": "echo", "b": ("echo", {}, {"settings": {"timeout": 5, "retry": {"base": 7}}})}
    graph = make_graph(nodes, settings={"timeout": 60, "retry": {"max_failures": 2}})
    plan = compile_plan(graph, catalogue)
    assert [node.settings.timeout for node in plan.nodes] == [60, 5]
    assert [(node.settings.retry.max_failures, node.settings.retry.base) for node in plan.nodes] == [(2, 1), (2, 7)]


@pytest.mark.parametrize(("nodes", "links"), [({"a": "unheard-of"}, []), ({"a": "echo"}, ["a.output>b.input"])])
def test_a_graph_that_was_not_validated_is_refused(
    catalogue: Catalogue, make_graph: Any, nodes: dict[str, Any], links: list[str]
) -> None:
    with pytest.raises(GraphInvalid) as refused:
        compile_plan(make_graph(nodes, *links), catalogue)
    assert refused.value.problems


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace('"format":4', '"format":99'), "no plan of format 4"),
        (lambda text: "[]", "no plan of format 4"),
        (lambda text: "{", "Expecting"),
        (lambda text: text.replace('"starts"', '"stops"'), "damaged"),
        (lambda text: text.replace('"nodes"', '"knots"'), "damaged"),
    ],
)
def test_what_is_no_plan_is_refused(plan: Plan, damage: Callable[[str], str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan.from_json(damage(plan.to_json()))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    count = draw(st.integers(1, 6))
    blocks = st.sampled_from(["echo", "adder", "input", "output", "note", "tooler"])
    node_settings = st.fixed_dictionaries({}, optional={"timeout": st.integers(1, 9), "priority": st.integers(0, 9)})
    nodes = [
        {
            "id": f"n{number}",
            "block_id": draw(blocks),
            "input_default": draw(st.dictionaries(st.text(min_size=1), json_values, max_size=3)),
            "settings": draw(node_settings),
        }
        for number in range(count)
    ]
    ends = st.integers(0, count - 1).map("n{}".format)
    pins = st.sampled_from(["a", "b", "error", "tools", "x_$_1"])
    link = st.fixed_dictionaries(
        {"source_id": ends, "sink_id": ends, "source_name": pins, "sink_name": pins, "is_static": st.booleans()}
    )
    return Graph.model_validate(
        {"nodes": nodes, "links": draw(st.lists(link, max_size=10)), "settings": draw(node_settings)}
    )


@settings(max_examples=60)
@given(graph=graphs())
def test_a_plan_survives_being_stored(catalogue: Catalogue, graph: Graph) -> None:
    plan = compile_plan(graph, catalogue)
    stored = plan.to_json()
    assert Plan.from_json(stored) == plan
    assert Plan.from_json(stored).to_json() == stored


@settings(max_examples=60)
@given(graph=graphs(), data=st.data())
def test_masks_hide_exactly_the_pins_they_name(catalogue: Catalogue, graph: Graph, data: st.DataObject) -> None:
    plan = compile_plan(graph, catalogue)
    pins = [(node.id, pin) for node in plan.nodes for pin in node.pins]
    chosen = data.draw(st.sets(st.sampled_from(pins)) if pins else st.just(set()))
    masks: dict[str, dict[str, Any]] = {}
    for node, pin in chosen:
        masks.setdefault(node, {})[pin] = 1
    masked = plan.masked(masks)
    assert {(node.id, pin) for node in masked.nodes for pin in node.pins} == set(pins) - chosen
    ends = {(masked.nodes[link.sink].id, link.sink_pin) for node in masked.nodes for link in node.links}
    assert ends == set(pins) - chosen


def test_a_graph_of_ten_thousand_nodes_is_compiled_and_read(catalogue: Catalogue, make_graph: Any) -> None:
    count = 10_000
    nodes = {f"n{number}": ("adder", {"a": number}) for number in range(count)}
    links = [f"n{number}.result>n{number * 7 % count}.{pin}" for number in range(count) for pin in ("a", "b")]
    plan = compile_plan(make_graph(nodes, *links), catalogue)
    assert Plan.from_json(plan.to_json()) == plan
