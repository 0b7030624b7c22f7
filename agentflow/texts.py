"""Decodes bytes as text, by one rule for all sources: files, replies, feeds, tables.

The encoding comes from the first of these that names one: a byte order mark; the charset of the Content-Type, read as
browsers read it; the text's own declaration (XML declaration, HTML meta tag). Otherwise it is UTF-8, or windows-1252 if
it cannot be UTF-8. The mark is never part of the text.

Pure: no I/O. Nothing is refused; undecodable bytes become U+FFFD.
"""

import codecs
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

MARK: Final = "\ufeff"
"""A byte order mark, decoded."""

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is a prefix of this one
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
"""Declared encoding → the superset that browsers read instead (https://encoding.spec.whatwg.org)."""

_NOT_FOR_TEXT: Final = frozenset(
    {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "utf-7", "charmap"}
)

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,39}")
_PARAMETER: Final = re.compile(r';\s*([^\s;=]*)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"?|([^;]*)))?', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)

_SEARCHED: Final = 1024
"""Bytes at the beginning that are searched for a declaration of the encoding."""

_XML: Final = re.compile(rb"""\s*<\?xml\s[^>]*?encoding\s*=\s*["']([^"']{1,40})["']""")
_HTML: Final = re.compile(rb"""<meta\s[^>]*?charset\s*=\s*["']?\s*([^\s"'/>;]{1,40})""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ContentType:
    """What a Content-Type header says.

    Attributes:
        media_type: as in `text/csv`, in lower case; "" if there is none.
        parameters: by lower-case name; the first of two with the same name.
    """

    media_type: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def charset(self) -> str:
        """The charset as written; "" if there is none."""
        return self.parameters.get("charset", "").strip(" \t'")

    @property
    def is_json(self) -> bool:
        """Whether the content is any kind of JSON."""
        return self.media_type in ("application/json", "text/json") or self.media_type.endswith("+json")

    @classmethod
    def parse(cls, header: str) -> "ContentType":
        """Parse `header`; skip what cannot be read."""
        media_type, _, _ = header.partition(";")
        parameters: dict[str, str] = {}
        for name, quoted, plain in _PARAMETER.findall(header[len(media_type) :]):
            parameters.setdefault(name.lower(), _ESCAPED.sub(r"\1", quoted) if quoted else plain.strip())
        return cls(media_type.partition(",")[0].strip().lower(), parameters)


def text_of(data: bytes, charset: str = "", media_type: str = "") -> str:
    """Decode `data`.

    Args:
        data: the bytes.
        charset: the declared encoding; ignored if empty or unknown.
        media_type: the declared media type, as in `text/html`.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace")
    known = encoding(charset) or _declared(data, media_type)
    if known in ("", "utf-8"):
        return _guessed(data)
    return without_mark(_windows(data) if known == "cp1252" else data.decode(known, "replace"))


def without_mark(text: str) -> str:
    """`text` without a leading byte order mark."""
    return text.removeprefix(MARK)


def json_value(text: str) -> Any:
    """Parse a JSON text, which may begin with a byte order mark.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(without_mark(text))


@lru_cache(maxsize=256)
def encoding(charset: str) -> str:
    """Python's name of the codec for `charset`; "" if it is not a text encoding."""
    charset = charset.strip().lower()
    if not _NAME.fullmatch(charset):
        return ""
    for name in (charset, charset.removeprefix("x-"), charset.replace("windows-", "cp")):
        try:
            known = codecs.lookup(name).name
            if known not in _NOT_FOR_TEXT and known.replace("-", "_") not in _NOT_FOR_TEXT:
                b" ".decode(known, "ignore")  # raises for codecs that do not decode to text
                return _READ_AS.get(known, "utf-8" if known == "utf-8-sig" else known)
        except (LookupError, ValueError):
            continue
    return ""


def _declared(data: bytes, media_type: str) -> str:
    """The encoding that an XML or HTML text declares; "" if none."""
    head = data[:_SEARCHED]
    found = _XML.match(head) or (_HTML.search(head) if "html" in media_type else None)
    known = encoding(found[1].decode("ascii", "replace")) if found else ""
    return "utf-8" if known.startswith(("utf-16", "utf-32")) else known  # else the declaration were unreadable


def _guessed(data: bytes) -> str:
    """Decode as UTF-8. If bytes are invalid and outnumber the valid non-ASCII characters, as windows-1252."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
    damaged = text.count("\ufffd")
    beyond_ascii = sum(not character.isascii() for character in text) - damaged
    return text if beyond_ascii > damaged else _windows(data)


def _windows(data: bytes) -> str:
    """Decode as windows-1252. Its five undefined bytes become control characters, as in browsers."""
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return codecs.charmap_decode(data, "strict", _WINDOWS)[0]


_WINDOWS: Final = "".join(
    chr(byte) if byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else bytes([byte]).decode("cp1252") for byte in range(256)
)
