"""Reads bytes as text, by one rule for everything that is read: files, replies, feeds, tables.

A byte order mark says what a text is written in, whatever else does; then what it was sent with (the charset of its
Content-Type), read as browsers read it; then what it says itself (an XML declaration, an HTML meta tag); then it is
UTF-8, or what Windows writes in the West where it cannot be. A mark is never part of the text.

Pure: no I/O, and nothing is refused; bytes that mean nothing become U+FFFD.
"""

import codecs
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

MARK: Final = "\ufeff"
"""A byte order mark, once it is text."""

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before the one of UTF-16, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_READ_AS: Final = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "utf-16": "utf-16-le",
    "utf-32": "utf-32-le",
}
"""What is said → what is meant, as browsers have it (https://encoding.spec.whatwg.org): a superset that people use."""

_NOT_FOR_TEXT: Final = frozenset(
    {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "utf-7", "charmap"}
)

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,39}")
_PARAMETER: Final = re.compile(r';\s*([^\s;=]*)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"?|([^;]*)))?', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)

_SEARCHED: Final = 1024
"""Bytes at the beginning in which a text may say what it is written in."""

_XML: Final = re.compile(rb"""\s*<\?xml\s[^>]*?encoding\s*=\s*["']([^"']{1,40})["']""")
_HTML: Final = re.compile(rb"""<meta\s[^>]*?charset\s*=\s*["']?\s*([^\s"'/>;]{1,40})""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ContentType:
    """What a Content-Type header says.

    Attributes:
        media_type: as in `text/csv`, in small letters; "" where there is none.
        parameters: by name, in small letters; of two with one name, the first.
    """

    media_type: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def charset(self) -> str:
        """As it is written; "" where there is none."""
        return self.parameters.get("charset", "").strip(" \t'")

    @property
    def is_json(self) -> bool:
        """Whether the content is JSON, of whatever sort."""
        return self.media_type in ("application/json", "text/json") or self.media_type.endswith("+json")

    @classmethod
    def parse(cls, header: str) -> "ContentType":
        """What `header` says, as far as it can be read."""
        media_type, _, _ = header.partition(";")
        parameters: dict[str, str] = {}
        for name, quoted, plain in _PARAMETER.findall(header[len(media_type) :]):
            parameters.setdefault(name.lower(), _ESCAPED.sub(r"\1", quoted) if quoted else plain.strip())
        return cls(media_type.partition(",")[0].strip().lower(), parameters)


def text_of(data: bytes, charset: str = "", media_type: str = "") -> str:
    """The text that `data` mean.

    Args:
        data: the bytes.
        charset: what they are said to be written in; "" or an unknown name: nobody says.
        media_type: what they are said to be, as in `text/html`.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace")
    known = encoding(charset) or _declared(data, media_type)
    if known in ("", "utf-8"):
        return _guessed(data)
    return without_mark(_windows(data) if known == "cp1252" else data.decode(known, "replace"))


def without_mark(text: str) -> str:
    """`text` without the byte order mark that it may begin with."""
    return text.removeprefix(MARK)


def json_value(text: str) -> Any:
    """The value in a JSON text, which may begin with a byte order mark.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested too deep.
    """
    return json.loads(without_mark(text))


@lru_cache(maxsize=256)
def encoding(charset: str) -> str:
    """Python's name of what a text in `charset` is to be read as; "" where that is no charset of texts."""
    charset = charset.strip().lower()
    if not _NAME.fullmatch(charset):
        return ""
    for name in (charset, charset.removeprefix("x-"), charset.replace("windows-", "cp")):
        try:
            known = codecs.lookup(name).name
            if known not in _NOT_FOR_TEXT and known.replace("-", "_") not in _NOT_FOR_TEXT:
                b" ".decode(known, "ignore")  # which codecs that are not for texts refuse
                return _READ_AS.get(known, "utf-8" if known == "utf-8-sig" else known)
        except (LookupError, ValueError):
            continue
    return ""


def _declared(data: bytes, media_type: str) -> str:
    """What the text says of itself, where it is of a kind that can."""
    head = data[:_SEARCHED]
    found = _XML.match(head) or (_HTML.search(head) if "html" in media_type else None)
    known = encoding(found[1].decode("ascii", "replace")) if found else ""
    return "utf-8" if known.startswith(("utf-16", "utf-32")) else known  # it could not be read then


def _guessed(data: bytes) -> str:
    """UTF-8; where a byte is damaged, still that, if there is more in it that is UTF-8; else windows-1252."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
    damaged = text.count("\ufffd")
    beyond_ascii = sum(not character.isascii() for character in text) - damaged
    return text if beyond_ascii > damaged else _windows(data)


def _windows(data: bytes) -> str:
    """windows-1252, in which the five bytes that mean nothing are control characters, as in browsers."""
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return codecs.charmap_decode(data, "strict", _WINDOWS)[0]


_WINDOWS: Final = "".join(
    chr(byte) if byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else bytes([byte]).decode("cp1252") for byte in range(256)
)
