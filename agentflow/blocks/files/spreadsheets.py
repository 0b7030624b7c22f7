"""Reads tables from comma-separated text or an Excel workbook, each cell as text.

A row becomes a dictionary, column → cell. No cell is lost: the second column with the same name gets the suffix `_2`,
the third `_3`; a column without a name, and a cell beyond the header, is named by its number, from 0.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, Final

from pydantic import Field

from agentflow.blocks.base import WORK_SECONDS, Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.blocks.files import comma_separated, workbooks
from agentflow.blocks.files.comma_separated import Marks
from agentflow.blocks.files.contents import content_of
from agentflow.blocks.files.reading import A_FILE
from agentflow.errors import BadInput
from agentflow.graph.catalogue import Dependence
from agentflow.texts import without_mark

MAX_ROWS: Final = 100_000
"""Rows that are read, empty ones included."""

MAX_CELLS: Final = 2_000_000
"""Cells that are read, empty ones included: a workbook's row may claim 16,384 of them in a few bytes."""

MAX_SINGLE_ROWS: Final = 10_000
"""Rows that are given out one by one; each is an output."""


class ReadSpreadsheet(Block):
    id = "acf7625e-d2cb-4941-bfeb-2819fc6fc015"
    name = "ReadSpreadsheet"
    description = (
        "Reads a table, from CSV text or the first sheet of an .xlsx workbook: each row becomes a dictionary. "
        "Of columns with one name, the second is called name_2."
    )
    categories = ("TEXT", "DATA")
    for_each = ("row",)
    former_outputs = {"all_data": "rows"}
    depends_on = frozenset({Dependence.OUTSIDE})
    cacheable = True
    timeout = WORK_SECONDS

    class Input(BlockInput):
        contents: str | None = Field(None, description="The table as CSV text, if it is in no file.")
        file_input: str | None = Field(None, description=f"{A_FILE} Is read rather than the contents.")
        delimiter: str = Field(",", min_length=1, max_length=1, description="What stands between two cells.")
        quotechar: str = Field('"', max_length=1, description="What stands around a cell that holds delimiters.")
        escapechar: str = Field(
            "\\", max_length=1, description="The escape character, for delimiter, quote and itself."
        )
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
        TestVector({"contents": "a,a,\n1,2,3"}, [("rows", [{"a": "1", "a_2": "2", "2": "3"}])]),
        TestVector(
            {"contents": '"n","path"\n"a","C:\\dir\\"\n"b","D:\\x"'},
            [("rows", [{"n": "a", "path": "C:\\dir\\"}, {"n": "b", "path": "D:\\x"}])],
        ),
        TestVector({"contents": 'a,b\n1,2\n3,"4\n5,6'}, fails="line 3: the text cannot be read as CSV: the quote"),
        TestVector({"contents": 'a\n"1"2'}, fails="line 2: the text cannot be read as CSV: a quote is closed"),
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
    marks = Marks(inputs.delimiter, inputs.quotechar, inputs.escapechar)
    if not inputs.file_input:
        if inputs.contents is None:
            raise BadInput("there are neither contents nor a file to read")
        return comma_separated.rows_of(without_mark(inputs.contents), marks)
    content = await content_of(inputs.file_input)
    if workbooks.is_workbook(content.data):
        return workbooks.rows_of(content.data)
    return comma_separated.rows_of(content.text, marks)


def _at_most(rows: Iterable[Sequence[str]], context: Context) -> Iterator[Sequence[str]]:
    cells = 0
    for number, row in enumerate(rows):
        context.stop_if_cancelled()
        cells += len(row)
        if number > MAX_ROWS:
            raise BadInput(f"the table has more than {MAX_ROWS} rows")
        if cells > MAX_CELLS:
            raise BadInput(f"the table has more than {MAX_CELLS} cells, empty ones included")
        yield row


def _records(rows: Iterator[Sequence[str]], inputs: ReadSpreadsheet.Input) -> Iterator[dict[str, str]]:
    """Each row as column → cell. Empty rows are left out."""
    columns = _Columns(
        [_cell(name, inputs.strip) for name in next(rows, ())] if inputs.has_header else [], inputs.skip_columns
    )
    for number, row in enumerate(rows):
        if number >= inputs.skip_rows and any(row):
            named = zip(columns.names(len(row)), row, strict=False)
            yield {name: _cell(cell, inputs.strip) for name, cell in named if name is not None}


class _Columns:
    """The names of the columns, each unique."""

    def __init__(self, header: Sequence[str], skipped: Sequence[str]) -> None:
        self._header, self._skipped = header, frozenset(skipped) - {""}
        self._said, self._taken = frozenset(header), set[str]()
        self._count: dict[str, int] = {}
        self._names: list[str | None] = []

    def names(self, count: int) -> Sequence[str | None]:
        """The names of at least the first `count` columns; None for a column that is left out."""
        for place in range(len(self._names), count):
            said = self._header[place] if place < len(self._header) else ""
            name = self._free(said) if said else self._free(str(place), kept=True)
            self._names.append(None if {said, name, str(place)} & self._skipped else name)
        return self._names

    def _free(self, wanted: str, *, kept: bool = False) -> str:
        """`wanted`, with a number added if another column has that name or (`kept`) the header uses it."""
        name, number = wanted, self._count.get(wanted, 1)
        while name in self._taken or (name in self._said and (kept or name != wanted)):
            number += 1
            name = f"{wanted}_{number}"
        self._count[wanted] = number
        self._taken.add(name)
        return name


def _cell(text: str, strip: bool) -> str:
    return text.strip() if strip else text
