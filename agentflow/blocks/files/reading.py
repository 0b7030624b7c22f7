"""Loads files and reads their text; `contents` defines what a file is."""

from collections.abc import AsyncIterator
from typing import Any, Final

from pydantic import Field

from agentflow.blocks.base import WORK_SECONDS, Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.blocks.files.contents import content_of
from agentflow.errors import BadInput
from agentflow.graph.catalogue import Dependence

MAX_CHUNKS: Final = 10_000
"""Chunks of one execution; each is an output."""

A_FILE: Final = "The file: a data: address, an http(s) address, or the content itself."


class FileStore(Block):
    id = "cbb50872-625b-42f0-8203-a2ae78242d8a"
    name = "FileStore"
    description = "Fetches a file and gives it to every later execution of what is linked to it, as a data: address."
    categories = ("BASIC",)
    static_output = True
    depends_on = frozenset({Dependence.OUTSIDE})
    cacheable = True

    class Input(BlockInput):
        file_in: str = Field(description=A_FILE)
        base_64: bool = Field(False, description="Give out the content in base64, without an address around it.")

    class Output(BlockOutput):
        file_out: str = Field(description="The file.")

    # Examples that need a server are in the tests; these need none.
    vectors = (
        TestVector({"file_in": "Hello é"}, [("file_out", "data:text/plain;charset=utf-8;base64,SGVsbG8gw6k=")]),
        TestVector({"file_in": "Hello", "base_64": True}, [("file_out", "SGVsbG8=")]),
        TestVector(
            {"file_in": "data:text/csv;name=a.csv;base64,MSwy"}, [("file_out", "data:text/csv;name=a.csv;base64,MSwy")]
        ),
        TestVector({"file_in": "data:,1%2C2"}, [("file_out", "data:text/plain;base64,MSwy")]),
        TestVector({"file_in": "data:text/csv;base64,_-8", "base_64": True}, [("file_out", "/+8=")]),
        TestVector({"file_in": "data:text/csv;base64,?"}, fails="not valid base64"),
        TestVector({"file_in": "data:text/csv;base64,A"}, fails="not valid base64"),
        TestVector({"file_in": "http://127.0.0.1:1/a.csv"}, fails="may not be reached from here"),
    )

    async def run(self, inputs: Input, context: Context) -> AsyncIterator[tuple[str, Any]]:
        content = await content_of(inputs.file_in)
        yield "file_out", content.base64 if inputs.base_64 else content.address


class FileRead(Block):
    id = "3735a31f-7e18-4aca-9e90-08a7120674bc"
    name = "FileRead"
    description = "Gives out the text of a file, whole or in chunks, optionally only some of its rows."
    categories = ("TEXT",)
    depends_on = frozenset({Dependence.OUTSIDE})
    cacheable = True
    timeout = WORK_SECONDS

    class Input(BlockInput):
        file_input: str = Field(description=A_FILE)
        delimiter: str = Field("", description="What stands between two rows, such as a line end; empty: no rows.")
        size_limit: int = Field(0, ge=0, description="Characters a chunk, at most; 0: one chunk.")
        row_limit: int = Field(0, ge=0, description="Rows to read, at most; 0: all.")
        skip_size: int = Field(0, ge=0, description="Characters to leave out at the beginning.")
        skip_rows: int = Field(0, ge=0, description="Rows to leave out after them.")

    class Output(BlockOutput):
        content: str = Field(description="The text, or each of its chunks.")

    vectors = (
        TestVector({"file_input": "Hello"}, [("content", "Hello")]),
        TestVector({"file_input": "data:text/plain;base64,SGVsbG8="}, [("content", "Hello")]),
        TestVector({"file_input": "abcde", "size_limit": 2}, [("content", "ab"), ("content", "cd"), ("content", "e")]),
        TestVector(
            {"file_input": "head\na\nb\nc", "delimiter": "\n", "skip_rows": 1, "row_limit": 2}, [("content", "a\nb")]
        ),
        TestVector({"file_input": "xxa|b", "skip_size": 2, "delimiter": "|", "skip_rows": 1}, [("content", "b")]),
        TestVector({"file_input": "a\nb", "delimiter": "\n", "skip_rows": 5}, [("content", "")]),
        TestVector({"file_input": "a" * (MAX_CHUNKS + 1), "size_limit": 1}, fails="more than 10000 chunks"),
        TestVector({"file_input": "a", "size_limit": -1}, fails="size_limit"),
        TestVector({"file_input": "a", "row_limit": 1}, fails="row_limit and skip_rows need a delimiter"),
    )

    async def run(self, inputs: Input, context: Context) -> AsyncIterator[tuple[str, Any]]:
        text = _rows((await content_of(inputs.file_input)).text[inputs.skip_size :], inputs)
        size = inputs.size_limit or max(len(text), 1)
        if len(text) > size * MAX_CHUNKS:
            raise BadInput(f"there are more than {MAX_CHUNKS} chunks; raise size_limit")
        for start in range(0, max(len(text), 1), size):
            context.stop_if_cancelled()
            yield "content", text[start : start + size]


def _rows(text: str, inputs: FileRead.Input) -> str:
    """`text` with only the requested rows."""
    if not inputs.delimiter:
        if inputs.row_limit or inputs.skip_rows:
            raise BadInput("row_limit and skip_rows need a delimiter, such as a line end")
        return text
    end = inputs.skip_rows + inputs.row_limit if inputs.row_limit else None
    return inputs.delimiter.join(text.split(inputs.delimiter)[inputs.skip_rows : end])
