"""What the demo runs is there, and it takes the right outputs only."""

import pytest

from agentflow.blocks.registry import catalogue
from agentflow.cli.demo_exhibits import Exhibit, digest, exhibits, more_exhibits, savings
from agentflow.cli.demo_site import PAGES
from agentflow.graph.model import Graph
from agentflow.graph.plan import compile_plan
from agentflow.graph.validation import validate

SITE = "http://127.0.0.1:1"


@pytest.mark.parametrize("exhibit", [*exhibits(SITE), *more_exhibits(SITE)], ids=lambda exhibit: exhibit.shows[:30])
def test_an_exhibits_graph_takes_its_inputs_and_has_its_outputs(exhibit: Exhibit) -> None:
    graph = Graph.model_validate(exhibit.document())
    outputs = compile_plan(graph, catalogue).outputs
    given = {**exhibit.inputs, "day": "2026-01-01T02:00:00Z"} if exhibit.mails else exhibit.inputs
    assert validate(graph, catalogue, for_run=True, inputs=given) == []
    assert exhibit.expected.keys() | exhibit.present <= outputs.keys()


def test_a_line_of_the_digest_for_each_page() -> None:
    lines = digest().split("\n")
    assert len(lines) == len(PAGES)
    assert lines[0] == "1. Why the tide comes late, by M. Okafor (20 words)"
    assert lines[6] == "7. Could not be read: this page has gone"


def test_the_savings_are_what_a_table_book_says() -> None:
    assert savings(100, 10, 0, 121) == {"years": [2], "plan": ["year 1: 110.00\nyear 2: 121.00\n"]}
    assert savings(5, 0, 0, 5) == {"years": [0], "plan": [""]}


EXHIBIT = Exhibit("x.json", "", {}, {"price": ["1"]}, frozenset({"trouble"}))


@pytest.mark.parametrize(
    ("outputs", "accepted"),
    [
        ({"price": ["1"], "trouble": ["it hung up"]}, True),
        ({"price": ["1"], "trouble": []}, False),
        ({"price": ["1"]}, False),
        ({"price": ["2"], "trouble": ["it hung up"]}, False),
        ({"price": ["1", "1"], "trouble": ["it hung up"]}, False),
        ({"price": ["1"], "trouble": ["it hung up"], "ship": ["x"]}, False),
        ({}, False),
    ],
)
def test_an_exhibit_takes_what_is_expected_and_nothing_else(outputs: dict[str, list[str]], accepted: bool) -> None:
    assert EXHIBIT.accepts(outputs) is accepted
