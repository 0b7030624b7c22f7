"""Which credentials a graph needs."""

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from agentflow.errors import Problem
from agentflow.graph.catalogue import BlockKind, BlockSpec, Catalogue, PinSpec
from agentflow.graph.needed_credentials import Need, credential_problems, missing, needed
from agentflow.graph.schemas import credentials_input_schema


def missing_credentials(graph: Any, catalogue: Catalogue, has: Any, masks: Any = None) -> list[Problem]:
    def check(need: Need) -> str | None:
        return None if any(map(has, need.providers)) else missing(need)

    return credential_problems(needed(graph, catalogue, masks), check)


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


def chooser(given: Mapping[str, Any], later: Collection[str]) -> str | None:
    """The credential of a block whose `model` says whose it is."""
    return None if "model" in later else str(given.get("model", "openai"))


CHOOSER = BlockSpec(
    "chooser",
    "Chooser",
    BlockKind.AI,
    {
        "model": PinSpec("model", str),
        "credentials": PinSpec("credentials", schema={"credentials_provider": ["openai", "groq", "ollama"]}),
    },
    {},
    provider=chooser,
)


@pytest.mark.parametrize(
    ("literals", "masks", "links", "providers"),
    [
        ({}, {}, [], ["openai"]),
        ({"model": "groq"}, {}, [], ["groq"]),
        ({"model": "groq"}, {"model": "openai"}, [], ["openai"]),
        ({"model": "groq", "credentials": {"provider": "OpenAI"}}, {}, [], ["openai"]),
        ({"model": "groq"}, {"credentials": {"provider": "ollama"}}, [], ["ollama"]),
        ({"model": "groq"}, {}, ["model"], ["openai", "groq", "ollama"]),
        ({"model": "groq"}, {"model": "ollama"}, ["model"], ["ollama"]),
        ({"model": "groq"}, {}, ["credentials"], ["openai", "groq", "ollama"]),
    ],
)
def test_what_a_node_is_given_tells_whose_credential_it_needs(
    catalogue: Catalogue,
    make_graph: Any,
    literals: dict[str, Any],
    masks: dict[str, Any],
    links: list[str],
    providers: list[str],
) -> None:
    def known(id: str) -> BlockSpec | None:
        return CHOOSER if id == "chooser" else catalogue(id)

    nodes = {"e": "echo", "c": ("chooser", literals)}
    graph = make_graph(nodes, *(f"e.output>c.{pin}" for pin in links))
    (need,) = needed(graph, known, {"c": masks})
    assert (need.providers, need.later) == (providers, links == ["credentials"])
    wanted = [] if need.later else [f"this node needs a credential for {' or '.join(providers)}"]
    assert [problem.message for problem in missing_credentials(graph, known, lambda _: False, {"c": masks})] == wanted
    if not masks:
        (key,) = credentials_input_schema(graph, known)["properties"]
        assert key == f"{'-'.join(sorted(providers))}__credentials"


def test_a_mask_names_the_provider_and_a_link_may_do_so_later(catalogue: Catalogue, make_graph: Any) -> None:
    graph = make_graph({"m": "model"})
    masks = {"m": {"credentials": {"provider": "groq"}}}
    assert missing_credentials(graph, catalogue, {"groq"}.__contains__, masks) == []
    linked = make_graph({"i": ("input", {"name": "i"}), "m": "model"}, "i.result>m.credentials")
    assert missing_credentials(linked, catalogue, lambda _: False) == []
