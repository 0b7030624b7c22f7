"""What blocks keep: who finds it again, and what an empty value means."""

from typing import Any
from uuid import UUID

import pytest

from agentflow.blocks import registry
from agentflow.blocks.base import Context
from agentflow.blocks.trial import collect, trial_context


class Notebook:
    """A memory that outlasts a context, as a user's does."""

    def __init__(self) -> None:
        self.pages: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.pages.get(key)

    def put(self, key: str, value: Any) -> None:
        self.pages[key] = value


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


def of_graph(number: int, notebook: Notebook) -> Context:
    return trial_context(graph_id=UUID(int=number), memory=notebook)


def keep(context: Context, key: str, value: Any, **more: Any) -> None:
    inputs = {"key": key, "value": value, **more}
    assert collect(registry.by_name("PersistInformation"), inputs, context) == [("value", value)]


def recall(context: Context, key: str, **more: Any) -> Any:
    [(pin, value)] = collect(registry.by_name("RetrieveInformation"), {"key": key, **more}, context)
    assert pin == "value"
    return value


def test_a_value_is_found_by_runs_of_its_graph_only(notebook: Notebook) -> None:
    keep(of_graph(1, notebook), "k", [1])
    assert recall(of_graph(1, notebook), "k") == [1]
    assert recall(of_graph(2, notebook), "k") is None
    assert recall(of_graph(1, notebook), "k", scope="across_agents") is None


def test_a_value_across_agents_is_found_by_runs_of_all_graphs(notebook: Notebook) -> None:
    keep(of_graph(1, notebook), "k", [1], scope="across_agents")
    assert recall(of_graph(2, notebook), "k", scope="across_agents") == [1]
    assert recall(of_graph(1, notebook), "k") is None


def test_the_keys_are_those_of_the_format(notebook: Notebook) -> None:
    keep(of_graph(1, notebook), "k", 1)
    keep(of_graph(1, notebook), "k", 2, scope="across_agents")
    assert notebook.pages == {f"agent#{UUID(int=1)}#k": 1, "global#k": 2}


@pytest.mark.parametrize("kept", [0, "", False, [], {}, 1, "x", [None]])
@pytest.mark.parametrize("default", [None, 5, "d"])
def test_only_nothing_gives_way_to_a_default(kept: Any, default: Any, notebook: Notebook) -> None:
    keep(of_graph(1, notebook), "k", kept)
    assert recall(of_graph(1, notebook), "k", default_value=default) is kept
    keep(of_graph(1, notebook), "k", None)
    assert recall(of_graph(1, notebook), "k", default_value=default) is default
