"""Who misspells a name is told which one was meant, and nobody is told nonsense."""

import pytest

from agentflow.graph.model import Graph
from agentflow.graph.nearly import MAX_HINTS, Hints, meant
from agentflow.graph.validation import validate


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("setings", ["settings", "nodes"], "settings"),
        ("link", ["links", "nodes"], "links"),
        ("valuse", ["values"], "values"),
        ("FilTextTemplate", ["FillTextTemplate", "TextSplit"], "FillTextTemplate"),
        ("position", ["settings", "nodes"], None),
        ("links", ["links"], None),
        ("", ["links"], None),
        ("x" * 10_000, ["links"], None),
    ],
)
def test_the_name_that_was_meant(name, known, expected):
    assert meant(name, known) == expected
    assert Hints().hint(name, known) == (f"; did you mean '{expected}'?" if expected else "")


def test_only_the_first_names_of_a_document_are_looked_at():
    """Else a request of a few megabytes, all unknown names, keeps a server busy for a minute."""
    hints = Hints()
    assert [hints.hint("setings", ["settings"]) != "" for _ in range(MAX_HINTS + 1)] == [True] * MAX_HINTS + [False]


@pytest.mark.parametrize(
    "document",
    [
        {"nodes": [], "links": [], "settings": {f"retri{number}": 1 for number in range(1000)}},
        {"nodes": [], "links": [], **{f"setings{number}": 1 for number in range(1000)}},
        {"nodes": [{"id": "a", "block_id": "x", "settings": {f"retri{number}": 1 for number in range(1000)}}]},
        {"nodes": [{"id": "a", "block_id": "x", **{f"metadate{number}": 1 for number in range(1000)}}]},
    ],
)
def test_a_graph_of_unknown_names_is_not_compared_name_by_name(document, monkeypatch):
    compared = []
    monkeypatch.setattr("agentflow.graph.nearly.meant", lambda name, known: compared.append(name))
    validate(Graph.model_validate(document), lambda block_id: None)
    assert len(compared) == MAX_HINTS
