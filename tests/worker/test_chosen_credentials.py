"""What a submission chooses reaches the nodes for which it is, in graphs whose nodes have the same ids too."""

from collections.abc import Callable
from typing import Any

import pytest
from planted import body

from agentflow.blocks import registry
from agentflow.blocks.base import BlockInput, BlockOutput
from agentflow.blocks.credentials import credentials

pytestmark = pytest.mark.timeout(60, method="thread")

URL = "/api/v1/credentials"
AGENT = registry.by_name("AgentExecutor").id
MODEL, MAIL = "openai_api_key_credentials", "smtp_api_key_credentials"


class Output(BlockOutput):
    value: object


def taking(provider: str) -> type[BlockInput]:
    pin = credentials(provider)

    class Input(BlockInput):
        value: object = None
        credentials: pin  # type: ignore[valid-type]

    return Input


@pytest.fixture
def used() -> list[tuple[str, str]]:
    """(provider, key) of each credential that a node got, in the order of time."""
    return []


@pytest.fixture
def nested(probe: Any, push: Any, used: list[tuple[str, str]]) -> Callable[..., Any]:
    """Graphs in graphs, each with a node `n` that takes a credential, the outermost first."""

    def of(*providers: str) -> Any:
        inner = None
        for provider in reversed(providers):

            def tells(inputs: Any, context: Any, provider: str = provider) -> Any:
                used.append((provider, context.credential(provider).api_key))
                yield "value", 1

            nodes = [{"id": "n", "block_id": probe(tells, Input=taking(provider), Output=Output)}]
            if inner is not None:
                named = {
                    "graph_id": str(inner),
                    "graph_version": 1,
                    "inputs": {},
                    "input_schema": {},
                    "output_schema": {},
                }
                nodes.append({"id": "sub", "block_id": AGENT, "input_default": named})
            inner = push({"name": provider, "nodes": nodes})
        return inner

    return of


@pytest.fixture
def store(api: Any) -> Callable[..., str]:
    """Stores two credentials of a provider, so that none is the only one; gives the id of the one with `key`."""

    def two(provider: str, key: str) -> str:
        for given in ("x" * 9, key):
            made = api.post(URL, json=body(provider, {"type": "api_key", "api_key": given}))
        return str(made.json["id"])

    return two


@pytest.mark.parametrize(
    "providers",
    [
        ("openai", "smtp"),
        ("smtp", "openai"),
        ("openai", "smtp", "openai"),
        ("smtp", "smtp", "openai", "openai"),
    ],
)
def test_nodes_of_one_id_in_several_graphs_each_get_their_own(
    nested: Any, store: Any, outcome: Any, used: Any, providers: Any
) -> None:
    chosen = {MODEL: store("openai", "model's"), MAIL: store("smtp", "mail's")}
    run = outcome(nested(*providers), credentials=chosen)
    assert run["status"] == "COMPLETED", run
    keys = {"openai": "model's", "smtp": "mail's"}
    assert sorted(used) == sorted((provider, keys[provider]) for provider in providers)


@pytest.mark.parametrize("providers", [("openai", "smtp"), ("smtp", "openai")])
def test_what_is_chosen_for_one_is_not_given_to_another_of_its_id(
    api: Any, nested: Any, store: Any, outcome: Any, used: Any, providers: Any
) -> None:
    api.post(URL, json=body("smtp", {"type": "api_key", "api_key": "the only one"}))
    run = outcome(nested(*providers), credentials={MODEL: store("openai", "model's")})
    assert run["status"] == "COMPLETED", run
    assert sorted(used) == [("openai", "model's"), ("smtp", "the only one")]


def test_a_fork_keeps_what_was_chosen_and_its_own_inputs_go_before(
    api: Any, nested: Any, store: Any, outcome: Any, used: Any, work: Any
) -> None:
    chosen = {MODEL: store("openai", "model's"), MAIL: store("smtp", "mail's")}
    other = api.post(URL, json=body("openai", {"type": "api_key", "api_key": "another"})).json["id"]
    run = outcome(nested("openai", "smtp"), credentials=chosen)
    used.clear()
    for inputs, expected in (({}, "model's"), ({"credentials": {"id": other}}, "another")):
        forked = api.post(f"/api/v1/runs/{run['id']}/fork", json={"from_node": "n", "inputs": inputs})
        assert forked.status_code == 202, forked.json
        work(forked.json["id"])
        assert used.pop() == ("openai", expected)


def test_a_mask_of_the_submission_goes_before(api: Any, nested: Any, store: Any, outcome: Any, used: Any) -> None:
    chosen = {MODEL: store("openai", "model's")}
    other = api.post(URL, json=body("openai", {"type": "api_key", "api_key": "another"})).json["id"]
    outcome(nested("openai", "openai"), credentials=chosen, nodes_input_masks={"n": {"credentials": {"id": other}}})
    assert used == [("openai", "another")] * 2
