"""Which credentials a graph needs."""

from typing import Any

import pytest

from agentflow.errors import Problem
from agentflow.graph.catalogue import Catalogue
from agentflow.graph.needed_credentials import missing_credentials


def places(problems: list[Problem]) -> list[tuple[str, str | None, str | None, str]]:
    return [(problem.message, problem.node, problem.pin, problem.severity) for problem in problems]


@pytest.mark.parametrize(
    ("node", "there", "expected"),
    [
        pytest.param(
            ("model", {}), set(), [("this node needs a credential for openai", "m", "credentials", "error")], id="none"
        ),
        pytest.param(("model", {}), {"openai"}, [], id="there"),
        pytest.param(("model", {}, {"metadata": {"credentials_optional": True}}), set(), [], id="optional"),
        pytest.param(("model", {"credentials": {"provider": "OpenAI"}}), {"openai"}, [], id="named"),
        pytest.param(
            ("model", {"credentials": {"provider": "groq"}}),
            {"openai"},
            [("this node needs a credential for groq", "m", "credentials", "error")],
            id="another is named",
        ),
        pytest.param(("model", {"credentials": "odd"}), {"openai"}, [], id="a value of another shape names none"),
    ],
)
def test_credentials_are_checked_at_submission(
    catalogue: Catalogue, make_graph: Any, node: Any, there: set[str], expected: list[Any]
) -> None:
    graph = make_graph({"m": node, "n": "note", "x": "unheard-of"})
    assert places(missing_credentials(graph, catalogue, there.__contains__)) == expected


def test_a_mask_names_the_provider_and_a_link_may_do_so_later(catalogue: Catalogue, make_graph: Any) -> None:
    graph = make_graph({"m": "model"})
    masks = {"m": {"credentials": {"provider": "groq"}}}
    assert missing_credentials(graph, catalogue, {"groq"}.__contains__, masks) == []
    linked = make_graph({"i": ("input", {"name": "i"}), "m": "model"}, "i.result>m.credentials")
    assert missing_credentials(linked, catalogue, lambda _: False) == []
