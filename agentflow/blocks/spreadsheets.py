"""The block that reads tables, from comma-separated text or from an Excel workbook. Every cell becomes a text."""

import csv
import io
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, Final

from pydantic import Field

from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.blocks.contents import content_of
from agentflow.blocks.files import A_FILE
from agentflow.blocks.workbooks import is_workbook, rows_of
from agentflow.errors import BadInput
from agentflow.texts import without_mark

MAX_ROWS: Final = 100_000
"""That are read, empty ones included."""

MAX_SINGLE_ROWS: Final = 10_000
"""That are given out one by one; each is an output of its own."""


class ReadSpreadsheet(Block):
    id = "acf7625e-d2cb-4941-bfeb-2819fc6fc015"
    name = "ReadSpreadsheet"
    description = "Reads a table, from CSV text or the first sheet of an .xlsx workbook: each row becomes a dictionary."
    categories = ("TEXT", "DATA")
    for_each = ("row",)
    former_outputs = {"all_data": "rows"}

    class Input(BlockInput):
        contents: str | None = Field(None, description="The table as CSV text, if it is in no file.")
        file_input: str | None = Field(None, description=f"{A_FILE} Is read rather than the contents.")
        delimiter: str = Field(",", min_length=1, max_length=1, description="What stands between two cells.")
        quotechar: str = Field('"', max_length=1, description="What stands around a cell that holds delimiters.")
        escapechar: str = Field("\\", max_length=1, description="What takes the meaning off the character behind it.")
        has_header: bool = Field(True, description="The first row holds the columns' names; else they are numbers.")
        skip_rows: int = Field(0, ge=0, description="Rows to leave out below the header.")
        strip: bool = Field(True, description="Remove white space around each cell.")
        skip_columns: list[str] = Field([], description="Names (or numbers, from 0) of columns to leave out.")
        produce_singular_result: bool = Field(False, description="Give out the rows one by one, not as one list.")

    class Output(BlockOutput):
        row: dict[str, str] = Field(description="A row, column → cell; once a row.")
        rows: list[dict[str, str]] = Field(description="All rows.")

    vectors = (
        TestVector(
            {"contents": "a, b, c\n1,2,3\n4,5,6"},
            [("rows", [{"a": "1", "b": "2", "c": "3"}, {"a": "4", "b": "5", "c": "6"}])],
        ),
        TestVector(
            {"contents": "a,b\n1,2\n\n3,4\n", "produce_singular_result": True},
            [("row", {"a": "1", "b": "2"}), ("row", {"a": "3", "b": "4"})],
        ),
        TestVector(
            {"contents": "1;2\n3; 4", "delimiter": ";", "has_header": False, "strip": False},
            [("rows", [{"0": "1", "1": "2"}, {"0": "3", "1": " 4"}])],
        ),
        TestVector(
            {"contents": 'a,b,c\nx,y,z\n"1,5",2,3\n', "skip_rows": 1, "skip_columns": ["b", "2"]},
            [("rows", [{"a": "1,5"}])],
        ),
        TestVector({"contents": "a\n1,2"}, [("rows", [{"a": "1", "1": "2"}])]),
        TestVector({"contents": "a,b\n1"}, [("rows", [{"a": "1"}])]),
        TestVector({"contents": "a,b\n1\\,5,2"}, [("rows", [{"a": "1,5", "b": "2"}])]),
        TestVector({"contents": "a\n1\\5", "escapechar": ""}, [("rows", [{"a": "1\\5"}])]),
        TestVector({"contents": "a,b\n'1,5',2", "quotechar": "'"}, [("rows", [{"a": "1,5", "b": "2"}])]),
        TestVector({"contents": 'a\n"1"', "quotechar": ""}, [("rows", [{"a": '"1"'}])]),
        TestVector({"contents": "1\n2\n3", "has_header": False, "skip_rows": 2}, [("rows", [{"0": "3"}])]),
        TestVector({"contents": ""}, [("rows", [])]),
        TestVector({"contents": "zzz", "file_input": "data:text/csv,a%0A1"}, [("rows", [{"a": "1"}])]),
        TestVector({}, fails="neither contents nor a file"),
        TestVector({"contents": "a", "delimiter": ";;"}, fails="delimiter"),
        TestVector({"contents": "a", "quotechar": ","}, fails="delimiter, quotechar and escapechar"),
        TestVector({"contents": "a\n" + "1\n" * 10_001, "produce_singular_result": True}, fails="more than 10000 rows"),
    )

    async def run(self, inputs: Input, context: Context) -> AsyncIterator[tuple[str, Any]]:
        rows = list(_records(_at_most(await _lines(inputs), context), inputs))
        if not inputs.produce_singular_result:
            yield "rows", rows
            return
        if len(rows) > MAX_SINGLE_ROWS:
            raise BadInput(f"there are more than {MAX_SINGLE_ROWS} rows to give out one by one")
        for row in rows:
            context.stop_if_cancelled()
            yield "row", row


async def _lines(inputs: ReadSpreadsheet.Input) -> Iterable[Sequence[str]]:
    """The cells of each row, the header first."""
    if not inputs.file_input:
        if inputs.contents is None:
            raise BadInput("there are neither contents nor a file to read")
        return _csv(inputs.contents, inputs)
    content = await content_of(inputs.file_input)
    return rows_of(content.data) if is_workbook(content.data) else _csv(content.text, inputs)


def _csv(text: str, inputs: ReadSpreadsheet.Input) -> Iterator[Sequence[str]]:
    special = [mark for mark in (inputs.delimiter, inputs.quotechar, inputs.escapechar) if mark]
    if len(set(special)) < len(special):
        raise BadInput("delimiter, quotechar and escapechar must differ")
    reader: Iterator[list[str]] | None = None
    try:
        reader = csv.reader(
            io.StringIO(without_mark(text), newline=""),
            delimiter=inputs.delimiter,
            quotechar=inputs.quotechar or None,
            quoting=csv.QUOTE_MINIMAL if inputs.quotechar else csv.QUOTE_NONE,
            escapechar=inputs.escapechar or None,
        )
        yield from reader
    except (csv.Error, TypeError, ValueError) as error:
        place = f"line {reader.line_num}: " if reader is not None and hasattr(reader, "line_num") else ""
        raise BadInput(f"{place}the text cannot be read as CSV: {error}") from None


def _at_most(rows: Iterable[Sequence[str]], context: Context) -> Iterator[Sequence[str]]:
    for number, row in enumerate(rows):
        context.stop_if_cancelled()
        if number > MAX_ROWS:
            raise BadInput(f"the table has more than {MAX_ROWS} rows")
        yield row


def _records(rows: Iterator[Sequence[str]], inputs: ReadSpreadsheet.Input) -> Iterator[dict[str, str]]:
    """Each row by column. Empty rows are left out; a cell without a name above it is named by its number."""
    header = [_cell(name, inputs.strip) for name in next(rows, ())] if inputs.has_header else []
    for number, row in enumerate(rows):
        if number >= inputs.skip_rows and any(row):
            yield {
                name: _cell(cell, inputs.strip)
                for place, cell in enumerate(row)
                if (name := header[place] if place < len(header) else str(place)) not in inputs.skip_columns
                and str(place) not in inputs.skip_columns
            }


def _cell(text: str, strip: bool) -> str:
    return text.strip() if strip else text
