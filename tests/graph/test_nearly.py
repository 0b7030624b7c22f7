"""Who misspells a name is told which one was meant, and nobody is told nonsense."""

import pytest

from agentflow.graph.nearly import hint, meant


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
    assert hint(name, known) == (f"; did you mean '{expected}'?" if expected else "")
