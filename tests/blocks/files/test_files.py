"""Files by value and from a real server, tables in them, and workbooks that lie about their size."""

import base64
import csv
import io
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.blocks import registry
from agentflow.blocks.files import comma_separated, spreadsheets, workbooks
from agentflow.blocks.files.comma_separated import Marks
from agentflow.blocks.trial import collect
from agentflow.errors import BadInput, Transient
from agentflow.settings import settings

if TYPE_CHECKING:
    from web_site import Site


@pytest.fixture
def web(site: "Site", monkeypatch: pytest.MonkeyPatch) -> Iterator["Site"]:
    """A server that web blocks may reach, as an operator would allow it."""
    monkeypatch.setenv("AGENTFLOW_HTTP_ALLOW", site.pair)
    monkeypatch.setenv("AGENTFLOW_HTTP_MAX_BYTES", "5000")
    settings.cache_clear()
    yield site
    settings.cache_clear()


def run(block: str, /, **inputs: Any) -> list[tuple[str, Any]]:
    return collect(registry.by_name(block), inputs)


def data(content: bytes, media_type: str = "application/octet-stream") -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def test_a_file_is_fetched_once_and_passed_on_by_value(web: "Site") -> None:
    [(pin, file)] = run("FileStore", file_in=f" {web.url('/as?type=text/csv&body=a,b')}\n")
    assert (pin, file) == ("file_out", "data:text/csv;name=as;base64,YSxi")
    assert run("FileRead", file_input=file) == [("content", "a,b")]
    assert run("FileStore", file_in=file) == [("file_out", file)]
    assert len(web.seen) == 1


def test_a_fetched_text_is_read_in_the_charset_that_it_names(web: "Site") -> None:
    url = web.url(f"/as?type={quote('text/plain; charset=latin-1')}&charset=latin-1&body=caf%C3%A9")
    assert run("FileRead", file_input=url) == [("content", "café")]
    [(_, file)] = run("FileStore", file_in=url)
    assert run("FileRead", file_input=file) == [("content", "café")]


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [("/status/404", BadInput, "answered 404"), ("/status/503", Transient, "answered 503"),
     ("/status/429", Transient, "answered 429"), ("/zeros/5001", BadInput, "more than 5000 bytes")],
)  # fmt: skip
@pytest.mark.parametrize(("block", "pin"), [("FileStore", "file_in"), ("FileRead", "file_input")])
def test_a_file_that_cannot_be_had_fails_the_block(
    web: "Site", block: str, pin: str, path: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(block, **{pin: web.url(path)})


def test_the_guard_of_web_blocks_guards_files_too(site: "Site") -> None:
    for block, inputs in (
        ("FileStore", {"file_in": site.url()}),
        ("FileRead", {"file_input": site.url()}),
        ("ReadSpreadsheet", {"file_input": site.url()}),
        ("AgentFileInput", {"name": "f", "value": site.url(), "base_64": True}),
    ):
        with pytest.raises(BadInput, match="may not be reached from here"):
            run(block, **inputs)
    assert site.seen == []


@pytest.mark.parametrize(
    "text", ["/etc/passwd", "file:///etc/passwd", "http://a b", "https://x.example\nis down", "data: 1,2"]
)
def test_what_is_no_address_is_the_content_itself(text: str) -> None:
    assert run("FileRead", file_input=text) == [("content", text.removeprefix("\ufeff"))]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (data("é€".encode("utf-8-sig")), "é€"),
        (data("é€".encode("utf-16")), "é€"),
        (data("é€".encode("cp1252")), "é€"),
        (data("é".encode("latin-1"), "text/plain;charset=latin-1"), "é"),
        (data("é".encode(), "text/plain;charset=nonsense"), "é"),
        *(
            (data(b"a\\u00e9", f"text/plain;charset={name}"), "a\\u00e9")
            for name in ("unicode_escape", "unicode-escape", "Unicode-Escape", "raw-unicode-escape", "rot13", "hex")
        ),
        (data(b"+AOk-", "text/plain;charset=utf-7"), "+AOk-"),
        ("DATA:Text/Plain;BASE64,SGVs%62G8%3D", "Hello"),
        ("data:text/plain;base64,SGVs\r\n bG8", "Hello"),
        ("data:,caf%C3%A9", "café"),
        ("data:;base64,", ""),
    ],
)
def test_a_text_is_read_as_it_was_written(file: str, text: str) -> None:
    assert run("FileRead", file_input=file) == [("content", text)]


def workbook(*rows: list[Any]) -> bytes:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.create_sheet("second").append(["not", "read"])
    into = io.BytesIO()
    book.save(into)
    return into.getvalue()


def sheet(content: bytes, **inputs: Any) -> Any:
    return dict(run("ReadSpreadsheet", file_input=data(content), **inputs))["rows"]


def test_the_first_sheet_of_a_workbook_is_read_as_texts() -> None:
    cells = [None, "x", 1, 2.0, 1.5, True, date(2026, 1, 2), datetime(2026, 1, 2, 3, 4), time(5, 6)]
    names = [f" {kind} " for kind in ("none", "text", "int", "whole", "float", "bool", "day", "moment", "time")]
    assert sheet(workbook(names, cells, [])) == [
        {
            "none": "", "text": "x", "int": "1", "whole": "2", "float": "1.5", "bool": "TRUE",
            "day": "2026-01-02", "moment": "2026-01-02T03:04:00", "time": "05:06:00",
        }
    ]  # fmt: skip


def repacked(content: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return into.getvalue()


def grown(name: str, part: bytes) -> bytes:
    return part + b" " * (workbooks.MAX_UNPACKED if name.endswith("sheet1.xml") else 0)


def test_a_workbook_that_unpacks_to_too_much_is_refused() -> None:
    bomb = repacked(workbook(["a"], [1]), grown)
    assert len(bomb) < 1_000_000
    with pytest.raises(BadInput, match="when it is unpacked"):
        sheet(bomb)


def test_a_workbook_that_lies_about_its_size_is_refused() -> None:
    bomb = repacked(workbook(["a"], [1]), grown)
    with zipfile.ZipFile(io.BytesIO(bomb)) as archive:
        [size] = [part.file_size for part in archive.infolist() if part.filename.endswith("sheet1.xml")]
    liar = bomb.replace(struct.pack("<I", size), struct.pack("<I", 1000))
    assert liar != bomb
    with pytest.raises(BadInput, match=r"its part 'xl/worksheets/sheet1\.xml' is damaged"):
        sheet(liar)


def test_a_sheet_that_claims_a_million_rows_is_given_up() -> None:
    far = repacked(
        workbook(["a"], [1]), lambda _, part: part.replace(b'r="2"', b'r="1000000"').replace(b"A2", b"A1000000")
    )
    with pytest.raises(BadInput, match=f"more than {spreadsheets.MAX_ROWS} rows"):
        sheet(far)


@pytest.mark.parametrize(
    "change",
    [
        lambda name, part: b"<broken" if name.endswith("sheet1.xml") else part,
        lambda name, part: b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>' if name.endswith("workbook.xml") else part,
        lambda name, part: b"" if name == "[Content_Types].xml" else part,
    ],
)
def test_a_broken_workbook_is_refused(change: Callable[[str, bytes], bytes]) -> None:
    with pytest.raises(BadInput, match="the workbook cannot be read"):
        sheet(repacked(workbook(["a"], [1]), change))


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"PK\x03\x04" + b"x" * 1000])
def test_what_only_begins_like_a_workbook_is_refused(content: bytes) -> None:
    with pytest.raises(BadInput, match="the workbook cannot be read"):
        sheet(content)


def test_an_old_workbook_is_refused_with_a_remedy() -> None:
    with pytest.raises(BadInput, match=r"save it as \.xlsx or \.csv"):
        sheet(b"\xd0\xcf\x11\xe0" + b"\0" * 100)


def test_without_openpyxl_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    content = workbook(["a"], [1])
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(BadInput, match=r"the operator installs what is missing so: .*openpyxl"):
        sheet(content)


def test_a_long_table_is_refused_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreadsheets, "MAX_ROWS", 3)
    assert len(dict(run("ReadSpreadsheet", contents="a\n1\n2\n3"))["rows"]) == 3
    with pytest.raises(BadInput, match="more than 3 rows"):
        run("ReadSpreadsheet", contents="a\n1\n2\n3\n4")


def table(text: str, **inputs: Any) -> list[dict[str, str]]:
    return list(dict(run("ReadSpreadsheet", contents=text, **inputs))["rows"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a,b\n1,"2\n3,4\n5,6', "line 2: the text cannot be read as CSV: the quote that opens a cell there is never"),
        ('a,b\n1,2\n"x\ny","z\n5,6', "line 4: the text"),
        ('a\r\n"1"2', "line 2: the text cannot be read as CSV: a quote is closed in the middle"),
        ('"', "line 1: the text"),
    ],
)
def test_broken_csv_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        table(text)


def test_a_cell_may_be_as_long_as_a_value() -> None:
    assert table(f"a\n{'x' * 200_000}") == [{"a": "x" * 200_000}]
    assert table('a\n"' + 'x""' * 200_000 + '"') == [{"a": 'x"' * 200_000}]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('n,p\n"a","C:\\dir\\"\n"b","D:\\x"', [["a", "C:\\dir\\"], ["b", "D:\\x"]]),
        ('n,p\n"a","C:\\"\n"b","D:\\"\n', [["a", "C:\\"], ["b", "D:\\"]]),
        ('p,n\n"C:\\dir\\","x"', [["C:\\dir\\", "x"]]),
        ("p,n\nC:\\dir\\,x", [["C:\\dir\\", "x"]]),
        ("p,n\nC:\\new\\table,x", [["C:\\new\\table", "x"]]),
        ('p,n\n"say \\"hi\\"",x', [['say "hi"', "x"]]),
        ('p,n\n"say \\"hi\\"\nthere",x', [['say "hi"\nthere', "x"]]),
        ("p,n\n1\\,5,2", [["1,5", "2"]]),
        ("p,n\n1\\\\,5", [["1\\", "5"]]),
        ('p,n\n"a" ,b', [["a", "b"]]),
        ('p,n\na "b" c,d', [['a "b" c', "d"]]),
        ("p,n\n\\,\\", [["\\", "\\"]]),
        ('p,n\n"\\","\\"\n"\\","\\"', [["\\", "\\"], ["\\", "\\"]]),
    ],
)
def test_a_backslash_escapes_where_that_harms_no_row(text: str, rows: list[list[str]]) -> None:
    assert [list(row.values()) for row in table(text)] == rows


CELLS = st.text('ab ",;\n\r\t\\é', max_size=6)


@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=5)))
def test_what_rfc_4180_writes_is_read_again(rows: list[list[str]]) -> None:
    into = io.StringIO(newline="")
    csv.writer(into, quoting=csv.QUOTE_ALL).writerows(rows)
    read = list(comma_separated.rows_of(into.getvalue(), Marks(escape="")))
    assert read == rows
    if not any("\\" in cell for row in rows for cell in row):
        assert list(comma_separated.rows_of(into.getvalue(), Marks())) == rows


PATHS = st.lists(st.sampled_from(["dir", "x", "né", "a b"]), min_size=1, max_size=3).map("\\".join)


@given(
    st.lists(st.tuples(PATHS, st.sampled_from(["", "\\"]), PATHS, st.sampled_from(["", "\\"])), min_size=1, max_size=6),
    st.booleans(),
)
def test_no_backslash_swallows_a_cell_or_a_row(paths: list[tuple[str, str, str, str]], quoted: bool) -> None:
    rows = [["first", "second"], *([a + b, c + d] for a, b, c, d in paths)]
    into = io.StringIO(newline="")
    csv.writer(into, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL).writerows(rows)
    assert list(comma_separated.rows_of(into.getvalue(), Marks())) == rows


@given(st.text('ab",\\\n\r ', max_size=30))
def test_any_text_is_read_as_a_table_or_refused_with_a_line(text: str) -> None:
    rows: list[list[str]] = []
    problem = ""
    try:
        rows = list(comma_separated.rows_of(text, Marks()))
    except BadInput as error:
        problem = error.message
    assert problem.startswith("line ") if problem else sum(map(len, rows)) <= len(text) + 1


@pytest.mark.parametrize("text", ['"' * 200_001, '"\\' * 100_000, "\\," * 100_000, "a,b\n" + '"\\",x\n' * 50_000])
def test_a_long_text_is_read_as_a_table_in_time(text: str) -> None:
    started = perf_counter()
    with suppress(BadInput):
        list(comma_separated.rows_of(text, Marks()))
    assert perf_counter() - started < 20


NAMES = st.lists(st.sampled_from(["a", "b", "a_2", "a_3", "1", "2", "2_2", ""]), min_size=1, max_size=8)


@given(NAMES, st.integers(0, 10))
def test_no_column_is_lost_to_another(names: list[str], width: int) -> None:
    cells = [f"c{place}" for place in range(width)]
    rows = table(",".join(names) + "\n" + ",".join(cells))
    assert [list(row.values()) for row in rows] == ([cells] if width else [])
    for row in rows:
        assert all(name in row for name in names[:width] if name)


def test_columns_of_one_name_are_numbered_and_left_out_together() -> None:
    assert table("id,amount,amount\n1,10,20") == [{"id": "1", "amount": "10", "amount_2": "20"}]
    assert table("a,,\n1,2,3") == [{"a": "1", "1": "2", "2": "3"}]
    assert table("id,amount,amount\n1,10,20", skip_columns=["amount"]) == [{"id": "1"}]
    assert table("id,amount,amount\n1,10,20", skip_columns=["amount_2"]) == [{"id": "1", "amount": "10"}]
    assert sheet(workbook(["a", "a"], [1, 2])) == [{"a": "1", "a_2": "2"}]


def test_durations_and_truth_values_have_one_text_each() -> None:
    lengths = [timedelta(hours=26, minutes=3, seconds=4), timedelta(seconds=1.5), timedelta(0)]
    assert sheet(workbook(["a", "b", "c", "d", "e"], [*lengths, True, False])) == [
        {"a": "26:03:04", "b": "0:00:01.500000", "c": "0:00:00", "d": "TRUE", "e": "FALSE"}
    ]


def test_a_formula_that_was_never_calculated_is_told() -> None:
    with pytest.raises(BadInput, match="the formula in cell B2 was never calculated"):
        sheet(workbook(["a", "b"], [1, "=A2+1"]))
    counted = repacked(
        workbook(["a", "b"], [1, "=A2+1"]), lambda _, part: re.sub(rb"<v */>|<v></v>", b"<v>2</v>", part)
    )
    assert sheet(counted) == [{"a": "1", "b": "2"}]
    empty = repacked(workbook(["a", "b"], [1, "=A2+1"]), lambda _, part: part.replace(b'r="B2"', b'r="B2" t="str"'))
    assert sheet(empty) == [{"a": "1", "b": ""}]


def test_a_small_workbook_of_wide_rows_is_refused() -> None:
    rows = b"".join(b'<row r="%d"><c r="XFD%d"><v>1</v></c></row>' % (row, row) for row in range(3, 5000))
    wide = repacked(workbook(["a"], [1]), lambda _, part: part.replace(b"</sheetData>", rows + b"</sheetData>"))
    assert len(wide) < 100_000
    started = perf_counter()
    with pytest.raises(BadInput, match="cells, empty ones included"):
        sheet(wide)
    assert perf_counter() - started < 30


def test_a_quoted_cell_may_hold_line_ends() -> None:
    assert dict(run("ReadSpreadsheet", contents='a,b\r\n"x\r\ny","""q"""\r\n'))["rows"] == [{"a": "x\r\ny", "b": '"q"'}]
