"""Lets values enter and leave a graph, through input and output nodes.

The run sets an input node's `value`, or it is the graph's default; typed inputs differ from AgentInput only in the type
of that pin. An output node's value becomes an output of the run, under the node's `name`.
"""

from collections.abc import Collection, Iterator
from typing import Any, ClassVar

from pydantic import Field

from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.blocks.text import templates
from agentflow.graph.catalogue import BlockKind, Dependence


class AgentInput(Block):
    id = "c0a8e994-ebf1-4a9c-a4d8-89d09c86741b"
    name = "AgentInput"
    description = "An input of the graph: gives out the value that the run was started with."
    categories = ("INPUT", "BASIC")
    kind = BlockKind.INPUT
    static_output = True

    class Input(BlockInput):
        name: str = Field(description="The input's name, by which a run gives its value.")
        value: Any = Field(None, description="The value; before a run, the default.")
        title: str | None = Field(None, description="What people are shown instead of the name.")
        description: str | None = Field(None, description="What the input is for.")
        advanced: bool = Field(False, description="Show it among the advanced inputs only.")
        secret: bool = Field(False, description="Never show or export its value.")

    class Output(BlockOutput):
        result: Any = Field(description="The value.")

    vectors: ClassVar[tuple[TestVector, ...]] = (
        TestVector({"name": "greeting", "value": "Hello"}, [("result", "Hello")]),
        TestVector({"name": "options", "value": {"a": [1, None]}}, [("result", {"a": [1, None]})]),
        TestVector({"name": "nothing"}, []),
        TestVector({"name": "zero", "value": 0}, [("result", 0)]),
        TestVector({"value": "no name"}, fails="name"),
    )

    def run(self, inputs: Any, context: Context) -> Iterator[tuple[str, Any]]:
        if inputs.value is not None:
            yield "result", inputs.value


class AgentShortTextInput(AgentInput):
    id = "7fcd3bcb-8e1b-4e69-903d-32d3d4a92158"
    name = "AgentShortTextInput"
    description = "An input of the graph that is a short text."

    class Input(AgentInput.Input):
        value: str | None = Field(None, description="The text; before a run, the default.")

    class Output(BlockOutput):
        result: str = Field(description="The text.")

    vectors: ClassVar[tuple[TestVector, ...]] = (
        TestVector({"name": "city", "value": "Rome"}, [("result", "Rome")]),
        TestVector({"name": "city", "value": ""}, [("result", "")]),
        TestVector({"name": "city"}, []),
        TestVector({"value": "Rome"}, fails="name"),
    )


class AgentLongTextInput(AgentShortTextInput):
    id = "90a56ffb-7024-4b2b-ab50-e26c5e5ab8ba"
    name = "AgentLongTextInput"
    description = "An input of the graph that is a text of several lines."
    vectors = (
        TestVector({"name": "letter", "value": "Dear all,\nhello."}, [("result", "Dear all,\nhello.")]),
        TestVector({"name": "letter"}, []),
        TestVector({"name": "letter", "value": ["Dear all"]}, fails="value"),
    )


class AgentNumberInput(AgentInput):
    id = "96dae2bb-97a2-41c2-bd2f-13a3b5a8ea98"
    name = "AgentNumberInput"
    description = "An input of the graph that is a whole number."

    class Input(AgentInput.Input):
        value: int | None = Field(None, description="The number; before a run, the default.")

    class Output(BlockOutput):
        result: int = Field(description="The number.")

    vectors = (
        TestVector({"name": "count", "value": 5}, [("result", 5)]),
        TestVector({"name": "count", "value": 0}, [("result", 0)]),
        TestVector({"name": "count"}, []),
        TestVector({"name": "count", "value": "many"}, fails="value"),
    )


class AgentToggleInput(AgentInput):
    id = "cbf36ab5-df4a-43b6-8a7f-f7ed8652116e"
    name = "AgentToggleInput"
    description = "An input of the graph that is on or off."

    class Input(AgentInput.Input):
        value: bool = Field(False, description="On or off; before a run, the default.")

    class Output(BlockOutput):
        result: bool = Field(description="Whether it is on.")

    vectors = (
        TestVector({"name": "loud", "value": True}, [("result", True)]),
        TestVector({"name": "loud"}, [("result", False)]),
        TestVector({"name": "loud", "value": "very"}, fails="value"),
    )


class AgentDropdownInput(AgentInput):
    id = "655d6fdf-a334-421c-b733-520549c07cd1"
    name = "AgentDropdownInput"
    description = "An input of the graph that is one of several texts to choose from."

    class Input(AgentInput.Input):
        value: str | None = Field(None, description="The chosen text; before a run, the default.")
        options: list[Any] = Field([], description="What there is to choose from; people are shown these.")

    class Output(BlockOutput):
        result: str = Field(description="The chosen text.")

    vectors = (
        TestVector({"name": "size", "value": "S", "options": ["S", "M"]}, [("result", "S")]),
        TestVector({"name": "size", "options": ["S", "M"]}, []),
        TestVector({"name": "size", "value": ["S"]}, fails="value"),
    )


class AgentOutput(Block):
    id = "363ae599-353e-4804-937e-b2ee3cef3da4"
    name = "AgentOutput"
    description = "An output of the graph: its value is among the run's outputs, as it is or formatted."
    categories = ("OUTPUT", "BASIC")
    kind = BlockKind.OUTPUT
    static_output = True
    timeout = templates.SECONDS
    depends_on = frozenset({Dependence.CHANCE})
    cacheable = True  # unless its format draws random items

    class Input(BlockInput):
        value: Any = Field(None, description="The value.")
        name: str = Field(description="The output's name, under which the run's outputs list the value.")
        title: str | None = Field(None, description="What people are shown instead of the name.")
        description: str | None = Field(None, description="What the output is.")
        format: str = Field("", description="A Jinja2 template for the value, which it calls by the output's name.")
        escape_html: bool = Field(False, description="Escape <, >, & and quotes in the value, for use in HTML.")
        advanced: bool = Field(False, description="Show it among the advanced outputs only.")
        secret: bool = Field(False, description="Never show or export its value.")

    class Output(BlockOutput):
        output: Any = Field(description="The value, or the formatted text.")
        name: Any = Field(description="The output's name; only where there is no format.")

    vectors = (
        TestVector({"value": "Hello", "name": "out"}, [("output", "Hello"), ("name", "out")]),
        TestVector({"value": None, "name": "out"}, [("output", None), ("name", "out")]),
        TestVector({"value": "World", "name": "who", "format": "Hello, {{ who }}!!"}, [("output", "Hello, World!!")]),
        TestVector({"value": 3, "name": "how many", "format": "{{ value }} items"}, [("output", "3 items")]),
        TestVector(
            {"value": "a & b", "name": "x", "format": "{{ x }}", "escape_html": True}, [("output", "a &amp; b")]
        ),
        TestVector({"value": "a & b", "name": "x", "format": "{{ x }}"}, [("output", "a & b")]),
        TestVector({"value": 1, "name": "x", "format": "{{ x "}, fails="the template cannot be filled in"),
        TestVector({"value": 1}, fails="name"),
    )

    @classmethod
    def reusable(cls, inputs: Any, pins: Collection[str] = ()) -> bool:
        return not templates.draws(inputs.format)

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        if not inputs.format:
            yield "output", inputs.value
            yield "name", inputs.name
            return
        names = {"value": inputs.value, inputs.name: inputs.value}
        yield "output", templates.fill(inputs.format, names, escape_html=inputs.escape_html)
