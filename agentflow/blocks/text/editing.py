"""Creates, splits and edits texts; without regular expressions, because these can hold a worker forever."""

from collections.abc import Collection, Iterator
from typing import Any

from pydantic import Field

from agentflow.blocks.base import WORK_SECONDS, Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.blocks.text import templates
from agentflow.errors import BadInput
from agentflow.graph.catalogue import Dependence


class FillTextTemplate(Block):
    id = "db7d8f02-2f44-4c55-ab7a-eae0941f0c30"
    name = "FillTextTemplate"
    description = "Fills values into a Jinja2 template: {{name}} stands for the value of that name."
    categories = ("TEXT",)
    timeout = templates.SECONDS
    depends_on = frozenset({Dependence.CHANCE})
    cacheable = True  # unless the template draws random items

    class Input(BlockInput):
        values: dict[str, Any] = Field({}, description="The values, by the names that the template uses.")
        format: str = Field(description="A Jinja2 template, such as: Hello {{name}}!")
        escape_html: bool = Field(False, description="Escape <, >, & and quotes in the values, for use in HTML.")

    class Output(BlockOutput):
        output: str = Field(description="The text with the values filled in.")

    vectors = (
        TestVector(
            {"values": {"a": "Hello", "b": "World", "c": "!!!"}, "format": "{{a}}, {{b}}{{c}}"},
            [("output", "Hello, World!!!")],
        ),
        TestVector(
            {"values": {"items": ["x", "y"]}, "format": "{% for i in items %}- {{ i }}\n{% endfor %}"},
            [("output", "- x\n- y\n")],
        ),
        TestVector({"values": {}, "format": "[{{ nothing }}]"}, [("output", "[]")]),
        TestVector(
            {"values": {"t": "<b>"}, "format": "<i>{{ t }}</i>", "escape_html": True},
            [("output", "<i>&lt;b&gt;</i>")],
        ),
        TestVector({"values": {}, "format": "{{ open"}, fails="the template cannot be filled in"),
        TestVector({"values": {}, "format": "{{ ''.__class__.__mro__ }}"}, fails="unsafe"),
    )

    @classmethod
    def reusable(cls, inputs: Any, pins: Collection[str] = ()) -> bool:
        return not templates.draws(inputs.format)

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        yield "output", templates.fill(inputs.format, inputs.values, escape_html=inputs.escape_html)


class CombineTexts(Block):
    id = "e30a4d42-7b7d-4e6a-b36e-1f9b8e3b7d85"
    name = "CombineTexts"
    description = "Joins several texts into one, with a delimiter between them."
    categories = ("TEXT",)
    former_inputs = {f"input{place + 1}": f"input_$_{place}" for place in range(10)}
    timeout = WORK_SECONDS

    class Input(BlockInput):
        input: list[str] = Field(description="The texts.")
        delimiter: str = Field("", description="What stands between two texts.")

    class Output(BlockOutput):
        output: str = Field(description="The joined text.")

    vectors = (
        TestVector({"input": ["Hello ", "World"]}, [("output", "Hello World")]),
        TestVector({"input": ["a", "b", "c"], "delimiter": ", "}, [("output", "a, b, c")]),
        TestVector({"input": []}, [("output", "")]),
        TestVector({"delimiter": ","}, fails="input"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        yield "output", inputs.delimiter.join(inputs.input)


class TextSplit(Block):
    id = "d5ea33c8-a575-477a-b42f-2fe3be5055ec"
    name = "TextSplit"
    description = "Splits a text at a delimiter."
    categories = ("TEXT",)
    timeout = WORK_SECONDS

    class Input(BlockInput):
        text: str = Field(description="The text.")
        delimiter: str = Field(description="Where to split; it is left out of the parts.")
        strip: bool = Field(True, description="Remove white space around each part.")

    class Output(BlockOutput):
        texts: list[str] = Field(description="The parts; none for an empty text.")

    vectors = (
        TestVector({"text": "a, b,c", "delimiter": ","}, [("texts", ["a", "b", "c"])]),
        TestVector({"text": "a, b", "delimiter": ",", "strip": False}, [("texts", ["a", " b"])]),
        TestVector({"text": "", "delimiter": ","}, [("texts", [])]),
        TestVector({"text": " ", "delimiter": ","}, [("texts", [""])]),
        TestVector({"text": "a,,b,", "delimiter": ","}, [("texts", ["a", "", "b", ""])]),
        TestVector({"text": "abc", "delimiter": ""}, fails="delimiter is empty"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        if not inputs.delimiter:
            raise BadInput("the delimiter is empty")
        parts = inputs.text.split(inputs.delimiter) if inputs.text else []
        yield "texts", [part.strip() for part in parts] if inputs.strip else parts


class TextReplace(Block):
    id = "7e7c87ab-3469-4bcc-9abe-67705091b713"
    name = "TextReplace"
    description = "Replaces every occurrence of a text within another."
    categories = ("TEXT",)
    timeout = WORK_SECONDS

    class Input(BlockInput):
        text: str = Field(description="The text to change.")
        old: str = Field(description="What to replace.")
        new: str = Field(description="What to put in its place.")

    class Output(BlockOutput):
        output: str = Field(description="The changed text.")

    vectors = (
        TestVector({"text": "one two one", "old": "one", "new": "1"}, [("output", "1 two 1")]),
        TestVector({"text": "unchanged", "old": "x", "new": "y"}, [("output", "unchanged")]),
        TestVector({"text": "a-b-c", "old": "-", "new": ""}, [("output", "abc")]),
        TestVector({"text": "a", "old": "a"}, fails="new"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        yield "output", inputs.text.replace(inputs.old, inputs.new)


class WordCharacterCount(Block):
    id = "ab2a782d-22cf-4587-8a70-55b59b3f9f90"
    name = "WordCharacterCount"
    description = "Counts the words and the characters of a text."
    categories = ("TEXT",)
    timeout = WORK_SECONDS

    class Input(BlockInput):
        text: str = Field(description="The text.")

    class Output(BlockOutput):
        word_count: int = Field(description="Parts between white space.")
        character_count: int = Field(description="Characters, white space included.")

    vectors = (
        TestVector({"text": "Hello, how are you?"}, [("word_count", 4), ("character_count", 19)]),
        TestVector({"text": ""}, [("word_count", 0), ("character_count", 0)]),
        TestVector({}, fails="text"),
    )

    def run(self, inputs: Input, context: Context) -> Iterator[tuple[str, Any]]:
        yield "word_count", len(inputs.text.split())
        yield "character_count", len(inputs.text)
