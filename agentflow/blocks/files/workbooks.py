"""Reads the first sheet of an Excel workbook with openpyxl, from the extra `spreadsheets`.

Every cell becomes a text: a date `2026-01-02`, a date with time `2026-01-02T03:04:00`, a time of day `05:06:00`, a
duration in hours, minutes and seconds `26:03:04`, a truth value `TRUE` or `FALSE`, a whole number without a point.

A workbook is a zip of XML. A small one can unpack to gigabytes, and a sheet of two cells can claim a million rows, so
sizes are checked before anything is unpacked, and rows are read one by one.
"""

import importlib
import io
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, Final

from agentflow.errors import BadInput
from agentflow.extras import install_command

MAX_UNPACKED: Final = 50 * 1024 * 1024
"""Bytes of all parts together."""

MAX_PARTS: Final = 5_000

_SHEET: Final = re.compile(r"sheets?/[^/]*\.xml$")
_FORMULA: Final = re.compile(rb"<(?:\w+:)?f[\s/>]")

_ZIP: Final = b"PK\x03\x04"
_OLD: Final = b"\xd0\xcf\x11\xe0"

_UNREADABLE: Final = (zipfile.BadZipFile, zlib.error, OSError, ValueError, RuntimeError)  # the last: a password


def is_workbook(data: bytes) -> bool:
    """Whether `data` is a workbook, not a text.

    Raises:
        BadInput: it is a workbook in the format before Excel 2007.
    """
    if data.startswith(_OLD):
        raise BadInput("the file is an old .xls workbook; save it as .xlsx or .csv")
    return data.startswith(_ZIP)


def rows_of(data: bytes) -> Iterator[Sequence[str]]:
    """The rows of the first sheet, each cell as text, an empty one as "".

    Raises:
        BadInput: the workbook cannot be read or is too large, or openpyxl is not installed.
    """
    _check_size(data)
    try:
        openpyxl = importlib.import_module("openpyxl")
    except ImportError:
        raise BadInput(
            "workbooks cannot be read here, only CSV; the operator installs what is missing so: "
            + install_command("spreadsheets", for_users=True)
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about parts that openpyxl skips
            if _has_formulas(data):
                for row, formulas in zip(_rows(openpyxl, data, True), _rows(openpyxl, data, False), strict=True):
                    yield [_text(_calculated(*cells)) for cells in zip(row, formulas, strict=True)]
            else:
                for row in _rows(openpyxl, data, True):
                    yield [_text(cell.value) for cell in row]
    except (MemoryError, BadInput):
        raise
    except Exception:  # openpyxl may raise anything for broken bytes, with messages for programmers
        raise BadInput("the workbook cannot be read: it is broken, or no .xlsx file") from None


def _rows(openpyxl: Any, data: bytes, calculated: bool) -> Iterator[Sequence[Any]]:
    """The cells of the first sheet, with the stored results of formulas (`calculated`), or with the formulas."""
    book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=calculated, keep_links=False)
    if book.worksheets:
        book.worksheets[0].reset_dimensions()  # its declared size may be wrong
        yield from book.worksheets[0].iter_rows()


def _has_formulas(data: bytes) -> bool:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sheets = [name for name in archive.namelist() if _SHEET.search(name)]
        return any(_FORMULA.search(archive.read(name)) for name in sheets)


def _calculated(cell: Any, formula: Any) -> Any:
    """The value of a cell. Programs that do not calculate write formulas without values.

    Raises:
        BadInput: the cell is such a formula; an empty value would be wrong.
    """
    if cell.value is None and formula.data_type == "f" and cell.data_type != "str":  # an empty text is one
        raise BadInput(
            f"the formula in cell {formula.coordinate} was never calculated: open the workbook in a program that does, "
            "and save it there"
        )
    return cell.value


def _check_size(data: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
            if len(parts) > MAX_PARTS or sum(part.file_size for part in parts) > MAX_UNPACKED:
                raise BadInput(f"the workbook has more than {MAX_UNPACKED} bytes when it is unpacked")
            # Declared sizes may be wrong. This unpacks piece by piece, up to the declared size, and checks checksums.
            damaged = archive.testzip()
    except _UNREADABLE as error:
        raise BadInput(f"the workbook cannot be read: {error}") from None
    if damaged is not None:
        raise BadInput(f"the workbook cannot be read: its part {damaged[:100]!r} is damaged")


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "TRUE" if cell else "FALSE"
    if isinstance(cell, timedelta):
        return _duration(cell)
    if isinstance(cell, datetime) and cell.time() == time():
        cell = cell.date()  # the cell shows only a date
    if isinstance(cell, date | time):
        return cell.isoformat()
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        cell = int(cell)
    return str(cell)


def _duration(length: timedelta) -> str:
    """Hours, minutes and seconds, with any number of hours: `26:03:04`, `-0:00:00.500000`."""
    minutes, rest = divmod(abs(length), timedelta(minutes=1))
    fraction = f".{rest.microseconds:06d}" if rest.microseconds else ""
    sign = "-" if length < timedelta() else ""
    return f"{sign}{minutes // 60}:{minutes % 60:02d}:{rest.seconds:02d}{fraction}"
