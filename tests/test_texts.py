"""Bytes become the same text whoever reads them, and a byte order mark is never part of it."""

import base64
import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from agentflow.blocks import registry
from agentflow.blocks.trial import collect
from agentflow.blocks.web.requests import _value
from agentflow.graph.coercion import coerce
from agentflow.net.fetching import Reply
from agentflow.texts import ContentType, encoding, text_of

CYRILLIC = "Привет, мир"


@pytest.mark.parametrize(
    ("header", "media_type", "charset"),
    [
        ("", "", ""),
        ("Text/HTML", "text/html", ""),
        ("text/plain; Charset=windows-1251", "text/plain", "windows-1251"),
        ("text/plain;CHARSET = 'koi8-r'", "text/plain", "koi8-r"),
        ('text/plain; x="a;charset=latin-1"; charset="utf-\\8"', "text/plain", "utf-8"),
        ("text/plain; charset=utf-8; charset=latin-1", "text/plain", "utf-8"),
        ("text/plain; notcharset=a; charset=b", "text/plain", "b"),
        ("application/json, text/html; charset=utf-8", "application/json", "utf-8"),
        ("; charset=utf-8", "", "utf-8"),
        ('text/plain; charset="utf-8', "text/plain", "utf-8"),
    ],
)
def test_a_content_type_is_read_whatever_its_spelling(header: str, media_type: str, charset: str) -> None:
    said = ContentType.parse(header)
    assert (said.media_type, said.charset) == (media_type, charset)


@given(st.text(max_size=60))
def test_any_header_is_read(header: str) -> None:
    said = ContentType.parse(header)
    assert isinstance(text_of(b"x", said.charset, said.media_type), str)


@pytest.mark.parametrize(
    ("data", "charset", "media_type", "text"),
    [
        (b"\x93caf\xe9\x94 \x80", "ISO-8859-1", "", "\u201ccafé\u201d €"),
        (b"\x93caf\xe9\x94", "us-ascii", "", "\u201ccafé\u201d"),
        (b"\x81\x8d", "latin1", "", "\x81\x8d"),
        (CYRILLIC.encode("cp1251"), "Windows-1251", "", CYRILLIC),
        (CYRILLIC.encode("cp1251"), "x-cp1251", "", CYRILLIC),
        (CYRILLIC.encode("utf-8-sig"), "windows-1251", "", CYRILLIC),
        (CYRILLIC.encode("utf-16"), "utf-8", "", CYRILLIC),
        (CYRILLIC.encode("utf-16-le"), "utf-16", "", CYRILLIC),
        (CYRILLIC.encode("utf-32"), "", "", CYRILLIC),
        ("日本①".encode("cp932"), "Shift_JIS", "", "日本①"),
        (b"caf\xe9", "", "", "café"),
        (b"caf\xe9", "utf-8", "", "café"),
        ("é".encode() * 9 + b"\xff", "", "", "é" * 9 + "\ufffd"),
        (b"+AGE-", "utf-7", "", "+AGE-"),
        (b"a\\u00e9", "unicode-escape", "", "a\\u00e9"),
        (b"6869", "hex", "", "6869"),
        (b"hi", "rot13", "", "hi"),
        (b"", "", "", ""),
        (b"<?xml version='1.0' encoding='windows-1251'?><a>" + CYRILLIC.encode("cp1251"), "", "text/xml",
         f"<?xml version='1.0' encoding='windows-1251'?><a>{CYRILLIC}"),
        (b'<meta http-equiv=x content="text/html; charset=koi8-r">' + CYRILLIC.encode("koi8-r"), "", "text/html",
         f'<meta http-equiv=x content="text/html; charset=koi8-r">{CYRILLIC}'),
        (b"<meta charset=utf-16>\xc3\xa9", "", "text/html", "<meta charset=utf-16>é"),
        (b"<meta charset=koi8-r>\xc3\xa9", "", "text/plain", "<meta charset=koi8-r>é"),
    ],
)  # fmt: skip
def test_bytes_are_read_as_browsers_read_them(data: bytes, charset: str, media_type: str, text: str) -> None:
    assert text_of(data, charset, media_type) == text


@given(st.binary(max_size=60), st.sampled_from(["", "utf-8", "latin-1", "utf-16", "cp932", "zlib", "idna", "no"]))
def test_any_bytes_are_read_and_no_mark_is_left(data: bytes, charset: str) -> None:
    text = text_of(data, charset)
    assert not text_of(b"\xef\xbb\xbf" + text.encode("utf-8", "replace")).startswith("\ufeff\ufeff")
    assert isinstance(text, str)


def test_no_charset_is_not_one_of_texts() -> None:
    refused = ("zlib", "hex", "rot13", "base64", "bz2", "uu", "idna", "punycode", "undefined", "unicode-escape",
               "raw_unicode_escape", "utf-7", "a\0b", "", "../x", "x" * 99, "charmap")  # fmt: skip
    assert [name for name in refused if encoding(name)] == []


WAYS = [("utf-8", "utf-8"), ("utf-8-sig", "utf-8"), ("utf-16", ""), ("utf-8-sig", ""), ("utf-8-sig", "ISO-8859-1"),
        ("cp1251", "Windows-1251"), ("koi8-r", "koi8-r"), ("cp1252", "iso-8859-1")]  # fmt: skip


def _reply(content: str, media_type: str, way: tuple[str, str]) -> Reply:
    written, said = way
    header = f"{media_type}; Charset={said}" if said else media_type
    return Reply(200, httpx.Headers({"content-type": header}), content.encode(written))


def _file(content: str, media_type: str, way: tuple[str, str]) -> str:
    written, said = way
    return (
        f"data:{media_type}{f';Charset={said}' if said else ''};base64,"
        + base64.b64encode(content.encode(written)).decode()
    )


def run(block: str, **inputs: Any) -> list[tuple[str, Any]]:
    return collect(registry.by_name(block), inputs)


@examples(deadline=None)
@given(st.sampled_from(WAYS), st.text("abc \u0416\u0439", min_size=1, max_size=9).map(str.strip).filter(bool))
def test_every_reader_reads_the_same(way: tuple[str, str], text: str) -> None:
    text = text if way[0] != "cp1252" else text.replace("\u0416", "é").replace("\u0439", "€")
    assert _reply(text, "text/html", way).text == text
    assert run("FileRead", file_input=_file(text, "text/plain", way)) == [("content", text)]
    table = f"id,name\n1,{text}"
    assert run("ReadSpreadsheet", file_input=_file(table, "text/csv", way)) == [("rows", [{"id": "1", "name": text}])]


MARKED = "\ufeff"


def test_a_mark_in_a_text_that_comes_through_a_pin_is_passed_over() -> None:
    assert run("ReadSpreadsheet", contents=MARKED + "id,name\n1,Ann") == [("rows", [{"id": "1", "name": "Ann"}])]
    assert run("ReadSpreadsheet", contents=MARKED + '"id","name"\n1,Ann') == [("rows", [{"id": "1", "name": "Ann"}])]
    assert run("StepThroughItems", items_str=MARKED + "[1]") == [("item", 1), ("key", 0)]
    assert run("StepThroughItems", items_str=MARKED) == []
    assert run("FindInDictionary", input=MARKED + '{"a": 1}', key="a") == [("output", 1)]
    assert run("XMLParser", input_xml=MARKED + "<a>1</a>") == [("parsed_xml", {"a": "1"})]
    assert run("FileRead", file_input=MARKED + "text") == [("content", "text")]
    assert run("FileRead", file_input=MARKED + "data:,text") == [("content", "text")]
    assert coerce(MARKED + '{"a": [1]}', dict) == {"a": [1]}
    assert coerce(MARKED + "[1]", list) == [1]


@pytest.mark.parametrize("way", WAYS[:4])
def test_a_json_reply_with_a_mark_is_json(way: tuple[str, str]) -> None:
    reply = _reply(json.dumps({"id": CYRILLIC}), "application/json", way)
    assert _value(reply, json_format=True) == {"id": CYRILLIC}
