"""Keeps values between runs, for one graph or for all graphs of a user."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from pydantic import Field

from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.graph.catalogue import Dependence


class Scope(StrEnum):
    """Which runs find a value again."""

    WITHIN_AGENT = "within_agent"  # the runs of the same graph
    ACROSS_AGENTS = "across_agents"  # the runs of all graphs of the user


_SCOPE = "Who finds it again: runs of this graph only (within_agent), or of all your graphs (across_agents)."


class PersistInformation(Block):
    id = "1d055e55-a2b9-4547-8311-907d05b0304d"
    name = "PersistInformation"
    description = "Keeps a value under a key, for later runs to find with RetrieveInformation."
    categories = ("DATA",)
    depends_on = frozenset({Dependence.MEMORY, Dependence.GRAPH})

    class Input(BlockInput):
        key: str = Field(min_length=1, description="The key.")
        value: Any = Field(description="The value.")
        scope: Scope = Field(Scope.WITHIN_AGENT, description=_SCOPE)

    class Output(BlockOutput):
        value: Any = Field(description="The value.")

    vectors = (
        TestVector({"key": "seen", "value": [1, {"a": None}]}, [("value", [1, {"a": None}])]),
        TestVector({"key": "seen", "value": 0, "scope": "across_agents"}, [("value", 0)]),
        TestVector({"key": "", "value": 1}, fails="key"),
        TestVector({"key": "k", "value": 1, "scope": "everywhere"}, fails="scope"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        context.memory.put(_full_key(inputs.key, inputs.scope, context), inputs.value)
        yield "value", inputs.value


class RetrieveInformation(Block):
    id = "d8710fc9-6e29-481e-a7d5-165eb16f8471"
    name = "RetrieveInformation"
    description = "Gives out what PersistInformation kept under a key."
    categories = ("DATA",)
    static_output = True
    depends_on = frozenset({Dependence.MEMORY, Dependence.GRAPH})

    class Input(BlockInput):
        key: str = Field(min_length=1, description="The key.")
        scope: Scope = Field(Scope.WITHIN_AGENT, description=_SCOPE)
        default_value: Any = Field(None, description="What to give out where nothing is kept.")

    class Output(BlockOutput):
        value: Any = Field(description="What was kept, or the default.")

    vectors = (
        TestVector({"key": "nothing"}, [("value", None)]),
        TestVector({"key": "nothing", "default_value": "d"}, [("value", "d")]),
        TestVector({"key": "nothing", "scope": "across_agents", "default_value": []}, [("value", [])]),
        TestVector({"key": ""}, fails="key"),
        TestVector({"key": "k", "scope": "everywhere"}, fails="scope"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        kept = context.memory.get(_full_key(inputs.key, inputs.scope, context))
        yield "value", inputs.default_value if kept is None else kept


def _full_key(key: str, scope: Scope, context: Context) -> str:
    return f"agent#{context.graph_id}#{key}" if scope is Scope.WITHIN_AGENT else f"global#{key}"
