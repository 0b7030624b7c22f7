"""Pins that bring back what their own node set in motion are known by the links of the graph."""

import random

import pytest

from agentflow.graph.feedback import feedback_pins

DECLARED = {"agent": ("history", "answer")}


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        pytest.param([("agent", "agent", "history")], ("history",), id="its own output"),
        pytest.param([("agent", "tool", "x"), ("tool", "agent", "answer")], ("answer",), id="what it called"),
        pytest.param(
            [("agent", "a", "x"), ("a", "b", "x"), ("b", "agent", "answer_#_text")],
            ("answer_#_text",),
            id="far downstream, a part",
        ),
        pytest.param([("other", "agent", "history")], None, id="from elsewhere"),
        pytest.param([("other", "agent", "history"), ("agent", "agent", "history")], None, id="from both"),
        pytest.param([("agent", "agent", "prompt")], None, id="a pin that is not declared"),
        pytest.param([("agent", "tool", "x"), ("other", "agent", "answer")], None, id="no way back"),
    ],
)
def test_a_declared_pin_counts_where_only_a_loop_feeds_it(
    links: list[tuple[str, str, str]], expected: tuple[str, ...] | None
) -> None:
    assert feedback_pins(DECLARED, links).get("agent") == expected


@pytest.mark.parametrize("seed", range(30))
def test_any_graph_is_judged_by_who_can_be_reached(seed: int) -> None:
    chance = random.Random(seed)
    nodes = range(chance.randint(2, 12))
    links = [(chance.choice(nodes), chance.choice(nodes), chance.choice("pq")) for _ in range(chance.randint(1, 30))]
    reached = {node: {node} for node in nodes}
    for _ in nodes:
        for source, sink, _pin in links:
            for node in nodes:
                if source in reached[node]:
                    reached[node].add(sink)
    expected = {
        (node, pin)
        for node in nodes
        for pin in "pq"
        if (sources := [source for source, sink, into in links if (sink, into) == (node, pin)])
        and all(source in reached[node] for source in sources)
    }
    found = feedback_pins(dict.fromkeys(nodes, ("p", "q")), links)
    assert {(node, pin) for node, pins in found.items() for pin in pins} == expected


def test_a_long_chain_is_walked_without_recursion() -> None:
    links = [(number, number + 1, "p") for number in range(20_000)] + [(20_000, 0, "p")]
    assert feedback_pins({0: ("p",)}, links) == {0: ("p",)}
