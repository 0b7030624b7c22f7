"""What does the first sheet of an Excel workbook hold? Read with openpyxl, which the extra `spreadsheets` brings.

A workbook is a zip of XML: a small one can hold gigabytes, and a sheet of two cells can claim a million rows. Its
sizes are looked at before anything is unpacked, and its rows come one by one.
"""

import importlib
import io
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from typing import Any, Final

from agentflow.errors import BadInput

MAX_UNPACKED: Final = 50 * 1024 * 1024
"""Bytes of all its parts."""

MAX_PARTS: Final = 5_000

_ZIP: Final = b"PK\x03\x04"
_OLD: Final = b"\xd0\xcf\x11\xe0"

_UNREADABLE: Final = (zipfile.BadZipFile, zlib.error, OSError, ValueError, RuntimeError)  # the last: it has a password


def is_workbook(data: bytes) -> bool:
    """Whether these are the bytes of a workbook, not of a text.

    Raises:
        BadInput: they are one of the kind that Excel wrote before 2007.
    """
    if data.startswith(_OLD):
        raise BadInput("the file is an old .xls workbook; save it as .xlsx or .csv")
    return data.startswith(_ZIP)


def rows_of(data: bytes) -> Iterator[Sequence[str]]:
    """The rows of the first sheet, each cell as text, an empty one as "".

    Raises:
        BadInput: it cannot be read, or is too large, or openpyxl is not there.
    """
    _check_size(data)
    try:
        openpyxl = importlib.import_module("openpyxl")
    except ImportError:
        raise BadInput(
            "workbooks cannot be read here: the operator has to install agentflow[spreadsheets]; CSV can be"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of parts that it leaves out
            book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
            if not book.worksheets:
                return
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # what it says of its size may be wrong
            for row in sheet.iter_rows(values_only=True):
                yield [_text(cell) for cell in row]
    except MemoryError:
        raise
    except Exception as error:  # a library that reads another's bytes: anything may come out
        raise BadInput(f"the workbook cannot be read: {type(error).__name__}: {error}") from None


def _check_size(data: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
            if len(parts) > MAX_PARTS or sum(part.file_size for part in parts) > MAX_UNPACKED:
                raise BadInput(f"the workbook has more than {MAX_UNPACKED} bytes when it is unpacked")
            # Sizes may be lies. This unpacks piece by piece, up to the size that a part claims, and compares checksums.
            damaged = archive.testzip()
    except _UNREADABLE as error:
        raise BadInput(f"the workbook cannot be read: {error}") from None
    if damaged is not None:
        raise BadInput(f"the workbook cannot be read: its part {damaged[:100]!r} is damaged")


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, datetime) and cell.time() == time():
        cell = cell.date()  # a day is all that the cell shows
    if isinstance(cell, date | time):
        return cell.isoformat()
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        cell = int(cell)
    return str(cell)
