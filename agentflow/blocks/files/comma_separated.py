"""Reads comma-separated text, and reports where it is broken instead of guessing.

RFC 4180 has no escape character, but many writers use one. Here it escapes the delimiter, the quote and itself; before
other characters it is an ordinary character. If a row can be read both ways, the plain reading is used where only that
one makes the row whole: every quote closes at the end of a cell, the row takes fewer lines, or it has as many cells as
the first row. So `"C:\\dir\\","x"` is two cells.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from agentflow.errors import BadInput

_LINE_END: Final = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Marks:
    """The special characters: one character each, or "" for none."""

    delimiter: str = ","
    quote: str = '"'
    escape: str = "\\"


@dataclass(frozen=True, slots=True)
class _Row:
    """One row: its cells, the position after it, and the number of line ends that it took."""

    cells: list[str]
    end: int
    lines: int


class _Broken(Exception):
    """The row cannot be read. `lines`: lines below its first; `problem`: the reason."""

    def __init__(self, lines: int, problem: str) -> None:
        self.lines, self.problem = lines, problem


def rows_of(text: str, marks: Marks) -> Iterator[list[str]]:
    """The rows of `text`. An empty line is a row without cells.

    Raises:
        BadInput: a quote is not closed, or closed in the middle of a cell; or marks are equal, or line ends.
    """
    special = [mark for mark in (marks.delimiter, marks.quote, marks.escape) if mark]
    if len(set(special)) < len(special):
        raise BadInput("delimiter, quotechar and escapechar must differ")
    if any(_LINE_END.match(mark) for mark in special):
        raise BadInput("delimiter, quotechar and escapechar must not be line ends")
    escaping = _Reader(text, marks.delimiter, marks.quote, marks.escape)
    plain = _Reader(text, marks.delimiter, marks.quote, "") if marks.escape else escaping
    at, line, width = 0, 1, None
    while at < len(text):
        row = _plain_line(text, at, special) or _row(escaping, plain, at, line, width)
        yield row.cells
        width = width or len(row.cells)
        at, line = row.end, line + row.lines


def _plain_line(text: str, at: int, marks: list[str]) -> _Row | None:
    """The row at `at` if its line has no special character but the delimiter, as most rows do; else None."""
    end = _LINE_END.search(text, at)
    written = text[at : end.start() if end else len(text)]
    if any(mark in written for mark in marks[1:]):
        return None
    return _Row(written.split(marks[0]) if written else [], end.end() if end else len(text), 1)


def _row(escaping: "_Reader", plain: "_Reader", at: int, line: int, width: int | None) -> _Row:
    """The row that begins at `at`, in the reading that makes it whole."""
    try:
        row = escaping.row(at)
        if plain is escaping or (len(row.cells) == width and row.lines <= 1) or not escaping.escapes(at, row.end):
            return row
    except _Broken as error:
        try:
            return plain.row(at)
        except _Broken:
            where = f"line {line + error.lines}"
            raise BadInput(f"{where}: the text cannot be read as CSV: {error.problem}") from None
    try:
        other = plain.row(at)
    except _Broken:
        return row
    if len(other.cells) == width != len(row.cells):
        return other
    return other if len(row.cells) != width and other.lines < row.lines else row


class _Reader:
    """Reads rows in one of the two readings, in linear time."""

    def __init__(self, text: str, delimiter: str, quote: str, escape: str) -> None:
        self._text, self._delimiter, self._quote, self._escape = text, delimiter, quote, escape
        d, q, e = (re.escape(mark) for mark in (delimiter, quote, escape))
        escaped = f"|{e}[{d}{q}{e}]|{e}" if escape else ""
        self._open = re.compile(rf"(?:[^{d}{e}\r\n]++{escaped})*+")
        self._quoted = re.compile(rf"{q}((?:[^{q}{e}]++|{q}{q}{escaped})*+)({q}?)") if quote else None
        self._after = re.compile(rf"(?:(?!{d})[ \t])*")
        self._pairs = re.compile(rf"{e}[{d}{q}{e}]" + (f"|{q}{q}" if quote else "")) if escape else None
        self._doubled = quote * 2

    def escapes(self, start: int, end: int) -> bool:
        """Whether the escape character occurs between these positions."""
        return self._text.find(self._escape, start, end) >= 0

    def row(self, at: int) -> _Row:
        """The row that begins at `at`.

        Raises:
            _Broken: it cannot be read.
        """
        text, start, cells = self._text, at, list[str]()
        end = _LINE_END.match(text, at)
        if end:
            return _Row([], end.end(), 1)
        while True:
            cell, at = self._cell(start, at)
            cells.append(cell)
            if text.startswith(self._delimiter, at):
                at += 1
                continue
            end = _LINE_END.match(text, at)
            at = end.end() if end else at
            return _Row(cells, at, len(_LINE_END.findall(text, start, at)))

    def _cell(self, start: int, at: int) -> tuple[str, int]:
        """The cell that begins at `at`, and the position of its end."""
        if self._quoted is None or not self._text.startswith(self._quote, at):
            found = self._open.match(self._text, at)
            assert found is not None
            return self._meant(found[0], doubled=False), found.end()
        found = self._quoted.match(self._text, at)
        assert found is not None
        if not found[2]:
            raise _Broken(self._line(start, at), "the quote that opens a cell there is never closed")
        after = self._after.match(self._text, found.end())
        assert after is not None
        end = after.end()
        if end < len(self._text) and self._text[end] not in (self._delimiter, "\r", "\n"):
            raise _Broken(self._line(start, end), "a quote is closed in the middle of a cell")
        return self._meant(found[1], doubled=True) + after[0], end

    def _line(self, start: int, at: int) -> int:
        return len(_LINE_END.findall(self._text, start, at))

    def _meant(self, written: str, *, doubled: bool) -> str:
        """The content of a cell, with doubled quotes and escaped characters reduced to one."""
        if self._pairs is not None and self._escape in written:
            return self._pairs.sub(lambda pair: self._one(pair[0], doubled), written)
        return written.replace(self._doubled, self._quote) if doubled and self._quote in written else written

    def _one(self, pair: str, doubled: bool) -> str:
        return pair[1] if doubled or pair[0] == self._escape else pair
