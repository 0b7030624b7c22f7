"""Runs another graph as a child run, and waits for it without holding a worker.

The block is called again whenever the child has new outputs, and when the child has ended (`engine/waits.ChildRun`).
"""

from collections.abc import Iterator
from typing import Any

from pydantic import ConfigDict, Field

from agentflow.blocks.base import Block, BlockInput, Context, TestVector
from agentflow.engine.waits import ChildRun, Resumed, Wait
from agentflow.errors import BadInput, BlockBug
from agentflow.graph.catalogue import BlockKind, Dependence


class AgentExecutor(Block):
    id = "e189baac-8c20-45a1-94a7-55177ea42565"
    name = "AgentExecutor"
    description = "Runs another graph, and gives out what its outputs get as they get it."
    categories = ("AGENT",)
    kind = BlockKind.AGENT
    atomic = True  # the outputs taken from the child and the cursor behind them must be stored together
    open_outputs = True
    waits = True
    depends_on = frozenset({Dependence.OUTSIDE})

    class Input(BlockInput):
        model_config = ConfigDict(extra="allow")  # links lead to pins named like the graph's inputs

        user_id: str = Field("", description="Accepted but ignored: the graph is looked up among your own.")
        graph_id: str = Field(min_length=1, description="The graph to run.")
        graph_version: int | None = Field(None, ge=1, description="Its version; left out: the latest.")
        agent_name: str | None = Field(None, description="The graph's name, for people.")
        inputs: dict[str, Any] = Field({}, description="Input → value, where no link brings another.")
        input_schema: dict[str, Any] = Field({}, description="JSON Schema of the graph's inputs: this node's pins.")
        output_schema: dict[str, Any] = Field({}, description="JSON Schema of its outputs: the pins that links leave.")
        nodes_input_masks: dict[str, Any] | None = Field(None, description="Accepted but ignored.")

    vectors = (
        TestVector(
            {
                "graph_id": "g",
                "graph_version": 2,
                "inputs": {"a": 1, "b": 2},
                "input_schema": {"properties": {"a": {}, "b": {}}},
                "b": 3,
                "c": 4,
            },
            waits=ChildRun("g", 2, {"a": 1, "b": 3}),
        ),
        TestVector({"graph_id": "g", "x": 1}, waits=ChildRun("g", None, {"x": 1})),
        TestVector(
            {
                "graph_id": "g",
                "user_id": "u",
                "output_schema": {"properties": {"sum": {}}},
                "nodes_input_masks": {"n": {}},
            },
            waits=ChildRun("g"),
        ),
        TestVector(
            {"graph_id": "g"},
            [("sum", 3), ("sum", "4"), ("rest", None)],
            resumed=Resumed(
                "child", {"outputs": [["sum", 3], ["sum", "4"], ["rest", None]], "cursor": {}, "status": "COMPLETED"}
            ),
        ),
        TestVector(
            {"graph_id": "g", "x": 1},
            [("sum", 3)],
            waits=ChildRun("g", None, {"x": 1}, cursor={"0": 1}),
            resumed=Resumed("child", {"outputs": [["sum", 3]], "cursor": {"0": 1}, "status": "RUNNING"}),
        ),
        TestVector(
            {"graph_id": "g"},
            [("sum", 3)],
            waits=ChildRun("g", cursor={"0": 1}),
            resumed=Resumed("child", {"outputs": [["sum", 3]], "cursor": {"0": 1}, "status": "FAILED", "error": "x"}),
        ),
        TestVector(
            {"graph_id": "g", "agent_name": "Sums"},
            fails="the run of Sums failed: no such number",
            resumed=Resumed("child", {"outputs": [], "cursor": {}, "status": "FAILED", "error": "no such number"}),
        ),
        TestVector(
            {"graph_id": "g"},
            fails="the run of graph g was cancelled",
            resumed=Resumed("child", {"outputs": [], "cursor": {}, "status": "CANCELLED", "error": None}),
        ),
        TestVector(
            {"graph_id": "g"},
            fails="there is no graph g (any more): its run was deleted",
            resumed=Resumed(
                "child",
                {"outputs": [], "cursor": {}, "status": "FAILED", "error": "its run was deleted", "missing": True},
            ),
        ),
        TestVector({"inputs": {}}, fails="graph_id"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any] | Wait]:
        cursor = None
        if context.resumed is not None:
            came = context.resumed.value
            yield from ((pin, value) for pin, value in came["outputs"])
            if came["status"] == "COMPLETED":
                return
            # Outputs that come with a failure are stored first: a failed call's outputs would be lost.
            if came["status"] in ("FAILED", "CANCELLED") and not came["outputs"]:
                raise _end(inputs, came)
            cursor = came["cursor"]
        yield ChildRun(inputs.graph_id, inputs.graph_version, _child_inputs(inputs), cursor=cursor)


def _child_inputs(inputs: AgentExecutor.Input) -> dict[str, Any]:
    """The literals, overridden by values from links to pins of the input schema (to any pin, if there is no schema).

    A value for an input with the same name as a pin of this block is already in `inputs` (`engine/inputs.py`).
    """
    brought = inputs.model_extra or {}
    pins = inputs.input_schema.get("properties")
    if isinstance(pins, dict) and pins:
        brought = {name: value for name, value in brought.items() if name in pins}
    return {**inputs.inputs, **brought}


def _end(inputs: AgentExecutor.Input, came: dict[str, Any]) -> BadInput | BlockBug:
    """The error for a child run that did not complete."""
    graph, error = inputs.agent_name or f"graph {inputs.graph_id}", came.get("error")
    if came.get("missing"):
        return BadInput(f"there is no graph {inputs.graph_id} (any more): {error}")
    if came["status"] == "CANCELLED":
        return BlockBug(f"the run of {graph} was cancelled" + (f": {error}" if error else ""))
    return BlockBug(f"the run of {graph} failed: {error or 'it does not say why'}")
