"""Takes inputs of a graph that are a date, a time of day, a file or a table; `io` has the plain ones."""

from collections.abc import AsyncIterator, Iterator
from datetime import date, time
from typing import Any, ClassVar

from pydantic import Field

from agentflow.blocks.base import Block, BlockOutput, Context, TestVector
from agentflow.blocks.files.contents import content_of
from agentflow.blocks.files.reading import A_FILE
from agentflow.blocks.flow.io import AgentInput
from agentflow.graph.catalogue import BlockKind, Dependence


class AgentDateInput(AgentInput):
    id = "7e198b09-4994-47db-8b4d-952d98241817"
    name = "AgentDateInput"
    description = "An input of the graph that is a day."

    class Input(AgentInput.Input):
        value: date | None = Field(None, description="The day, such as 2026-11-24; before a run, the default.")

    class Output(BlockOutput):
        result: date = Field(description="The day.")

    vectors: ClassVar[tuple[TestVector, ...]] = (
        TestVector({"name": "due", "value": "2026-11-24"}, [("result", "2026-11-24")]),
        TestVector({"name": "due"}, []),
        TestVector({"name": "due", "value": "tomorrow"}, fails="value"),
    )

    def run(self, inputs: Any, context: Context) -> Iterator[tuple[str, Any]]:
        if inputs.value is not None:
            yield "result", inputs.value.isoformat()


class AgentTimeInput(AgentDateInput):
    id = "2a1c757e-86cf-4c7e-aacf-060dc382e434"
    name = "AgentTimeInput"
    description = "An input of the graph that is a time of day."

    class Input(AgentInput.Input):
        value: time | None = Field(None, description="The time, such as 14:30:00; before a run, the default.")

    class Output(BlockOutput):
        result: time = Field(description="The time.")

    vectors = (
        TestVector({"name": "at", "value": "14:30"}, [("result", "14:30:00")]),
        TestVector({"name": "at", "value": "00:00:00"}, [("result", "00:00:00")]),
        TestVector({"name": "at"}, []),
        TestVector({"name": "at", "value": "25:00"}, fails="value"),
    )


class AgentFileInput(Block):
    id = "95ead23f-8283-4654-aef3-10c053b74a31"
    name = "AgentFileInput"
    description = "An input of the graph that is a file."
    categories = ("INPUT", "BASIC")
    kind = BlockKind.INPUT
    static_output = True
    depends_on = frozenset({Dependence.OUTSIDE})
    cacheable = True

    class Input(AgentInput.Input):
        value: str | None = Field(None, description=f"{A_FILE} Before a run, the default.")
        base_64: bool = Field(False, description="Give out the content in base64; else the file as it was given.")

    class Output(BlockOutput):
        result: str = Field(description="The file, for blocks that take files; or its content.")

    vectors = (
        TestVector({"name": "list", "value": "data:text/csv,1%2C2"}, [("result", "data:text/csv,1%2C2")]),
        TestVector({"name": "list", "value": "data:text/csv,1%2C2", "base_64": True}, [("result", "MSwy")]),
        TestVector({"name": "list", "base_64": True}, []),
        TestVector({"name": "list", "value": "data:;base64,?", "base_64": True}, fails="not valid base64"),
        TestVector({"name": "list", "value": "http://127.0.0.1:1/", "base_64": True}, fails="may not be reached"),
    )

    async def run(self, inputs: Input, context: Context) -> AsyncIterator[tuple[str, Any]]:
        if inputs.value is not None:
            yield "result", (await content_of(inputs.value)).base64 if inputs.base_64 else inputs.value


class AgentTableInput(AgentInput):
    id = "5603b273-f41e-4020-af7d-fbc9c6a8d928"
    name = "AgentTableInput"
    description = "An input of the graph that is a table: a list of rows, each column → cell."

    class Input(AgentInput.Input):
        value: list[dict[str, Any]] | None = Field(None, description="The rows; before a run, the default.")
        column_headers: list[str] = Field(
            ["Column 1", "Column 2", "Column 3"], description="The columns' names; people are shown these."
        )

    class Output(BlockOutput):
        result: list[dict[str, Any]] = Field(description="The rows; none where nothing was given.")

    vectors = (
        TestVector(
            {"name": "prices", "value": [{"what": "tea", "price": 3}], "column_headers": ["what", "price"]},
            [("result", [{"what": "tea", "price": 3}])],
        ),
        TestVector({"name": "prices"}, [("result", [])]),
        TestVector({"name": "prices", "value": [5]}, fails="value.0"),
    )

    def run(self, inputs: Any, context: Context) -> Iterator[tuple[str, Any]]:
        yield "result", inputs.value or []
