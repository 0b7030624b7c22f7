"""Which links fire for what a block yields, with which part of it, and in which order."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import Wire, plan_of

from agentflow.engine.codec import dumps
from agentflow.engine.routing import Batch, Router, routes_of
from agentflow.graph.pins import select, tool_pin
from agentflow.graph.plan import Plan

Fired = list[tuple[int, str]]
"""Links that fired, by their places, each with the text that it carries."""


def route(plan: Plan, *yields: tuple[str, Any], first: int = 0) -> Batch:
    batch = Batch(first=first)
    router = Router(plan.nodes[0])
    for pin, value in yields:
        router.add(batch, pin, value, dumps(value))
    return batch


def fired(batch: Batch) -> Fired:
    stored = {
        (ordinal, part): text for ordinal, part, text in zip(batch.ordinals, batch.parts, batch.values, strict=True)
    }
    assert len(stored) == len(batch.ordinals), "each part is stored once"
    return [
        (link.number, stored[ordinal, part])
        for ordinal, part, link in zip(batch.route_ordinals, batch.route_parts, batch.route_links, strict=True)
    ]


def to_one(*pins: str) -> Plan:
    """Node 0 with a link from each of these pins, each to a node of its own."""
    return plan_of(*((0, pin, sink, "in") for sink, pin in enumerate(pins, start=1)), nodes=len(pins) + 1)


PAGE = {"title": "T", "links": ["a", "b"], "none": None, "deep": {"x": [{"y": 0}]}}


@pytest.mark.parametrize(
    ("links", "pin", "value", "expected"),
    [
        (["x"], "x", 1, [(0, "1")]),
        (["x"], "y", 1, []),
        ([], "x", 1, []),
        (["x"], "x", None, [(0, "null")]),
        (["x", "y", "x"], "x", 1, [(0, "1"), (2, "1")]),
        (["x_#_title"], "x", PAGE, [(0, '"T"')]),
        (["x_#_none", "x_#_absent", "x_$_0", "x_@_title"], "x", PAGE, [(3, '"T"')]),
        (["x_#_links_$_1", "x_#_links_$_2"], "x", PAGE, [(0, '"b"')]),
        (["x_#_deep_#_x_$_0_@_y"], "x", PAGE, [(0, "0")]),
        (["x_$_0", "x", "x_$_0"], "x", ["a"], [(0, '"a"'), (1, '["a"]'), (2, '"a"')]),
        (["x_$_0"], "x", "text", []),
        (["x_$_0"], "x", None, []),
        (["x_$_0", "y"], "x_$_0", None, [(0, "null")]),
        (["x_$_0", "x"], "x_$_0", 1, [(0, "1")]),
        (["x_#_"], "x_#_", 1, [(0, "1")]),
        (["x_#_"], "x", {"": 1}, []),
        (["error", "x"], "error", "it broke", [(0, '"it broke"')]),
        (["error_#_code"], "error", "it broke", []),
        ([tool_pin("n1", "query")], tool_pin("n1", "query"), "q", [(0, '"q"')]),
        ([tool_pin("n1", "query"), tool_pin("n2", "query")], tool_pin("n2", "query"), "q", [(1, '"q"')]),
        ([tool_pin("n1", "query")], tool_pin("n1", "other"), "q", []),
        ([tool_pin("n1", "query")], "tools", {"query": "q"}, []),
        ([tool_pin("n1", "a_$_0")], tool_pin("n1", "a_$_0"), "q", [(0, '"q"')]),
    ],
)
def test_these_links_fire_with_these_values(links: list[str], pin: str, value: Any, expected: Fired) -> None:
    assert fired(route(to_one(*links), (pin, value))) == expected


def test_links_fire_in_the_order_of_the_document() -> None:
    plan = plan_of((0, "x", 3, "c"), (0, "x_$_0", 1, "a"), (0, "x", 1, "b"), (0, "x_$_0", 2, "a"), nodes=4)
    assert [link for link, _ in fired(route(plan, ("x", [7])))] == [0, 1, 2, 3]


def test_ordinals_go_on_behind_what_is_stored_and_count_what_goes_nowhere() -> None:
    batch = route(to_one("x"), ("x", 1), ("unlinked", 2), ("x", 3), first=5)
    assert (batch.first, batch.count) == (5, 3)
    assert batch.ordinals == [5, 6, 7]
    assert batch.pins == ["x", "unlinked", "x"]
    assert batch.route_ordinals == [5, 7]


def test_every_value_is_stored_whole_and_each_selected_part_once_beside_it() -> None:
    batch = route(to_one("x_$_1", "x_$_1", "x_$_0", "x_$_9", "x"), ("x", ["a", "b"]))
    assert list(zip(batch.ordinals, batch.parts, batch.pins, batch.values, strict=True)) == [
        (0, 0, "x", '["a","b"]'),
        (0, 1, "x_$_1", '"b"'),
        (0, 2, "x_$_0", '"a"'),
    ]
    assert batch.route_parts == [1, 1, 2, 0]


def test_parts_are_numbered_anew_for_each_output() -> None:
    batch = route(to_one("x_$_0", "x_$_1"), ("x", [1]), ("x", [1, 2]), ("x", []))
    assert list(zip(batch.ordinals, batch.parts, strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0)]


def test_the_text_that_was_given_is_stored_as_it_is() -> None:
    batch = Batch(first=0)
    Router(to_one("x").nodes[0]).add(batch, "x", 1, "1 ")
    assert batch.values == ["1 "]


def test_a_router_serves_many_batches() -> None:
    router = Router(to_one("x").nodes[0])
    batches = [Batch(first=0), Batch(first=0)]
    for batch in batches:
        router.add(batch, "x", 1, "1")
    assert batches[0] == batches[1]


def test_the_columns_say_of_each_route_what_its_sink_is_like() -> None:
    plan = plan_of((0, "x", 1, "a"), (0, "x", 2, "b"), (0, "x", 2, "c"), nodes=3, static=frozenset({2}))
    columns = routes_of(plan, route(plan, ("x", 1), first=4))
    assert columns._asdict() == {
        "ordinals": [4, 4, 4],
        "parts": [0, 0, 0],
        "sinks": [1, 2, 2],
        "pins": ["a", "b", "c"],
        "statics": [False, False, True],
        "needs": [1, 2, 2],
        "bases": [1, 1, 1],
        "sticky_sinks": [False, True, True],
    }


pins = st.sampled_from(
    ["x", "y", "x_$_0", "x_#_k", "x_#_k_$_0", "y_@_k", "error", "x_$_", "tools", tool_pin("n1", "a")]
)
values = st.sampled_from([None, 0, [], [1], {"k": [2]}, {"k": None}, "text"])
wires = st.tuples(st.just(0), pins, st.integers(1, 3), st.sampled_from(["a", "b"]))


@given(st.lists(wires, max_size=8), st.lists(st.tuples(pins, values), max_size=6), st.integers(0, 100))
def test_routing_equals_asking_every_link_about_every_value(
    links: list[Wire], yields: list[tuple[str, Any]], first: int
) -> None:
    expected = []
    for pin, value in yields:
        for number, (_, source_pin, _, _) in enumerate(links):
            fires, selected = select(source_pin, pin, value)
            if fires:
                expected.append((number, dumps(selected)))
    batch = route(plan_of(*links, nodes=4), *yields, first=first)
    assert fired(batch) == expected
    whole = [ordinal for ordinal, part in zip(batch.ordinals, batch.parts, strict=True) if part == 0]
    assert whole == list(range(first, first + len(yields)))
