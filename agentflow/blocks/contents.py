"""What is in a file that a graph passes along, and how is one passed on?

A file is a text: a `data:` address, an http(s) address, which is fetched within the limits of all web blocks, or else
the content itself. Nothing is read from, or written to, the worker's own disk.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

from agentflow.blocks.answers import retry_after
from agentflow.blocks.fetching import Body, Limits, fetch
from agentflow.errors import BadInput, Transient

_DATA: Final = re.compile(
    r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?P<parameters>(?:;[^;,\r\n]*)*),", re.ASCII | re.IGNORECASE
)
_WEB: Final = re.compile(r"https?://\S+", re.ASCII | re.IGNORECASE)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]*")
_WEB_SAFE: Final = str.maketrans("-_", "+/")
_CHARSET: Final = re.compile(r"[A-Za-z0-9._:-]{1,40}")
_NOT_FOR_TEXT: Final = frozenset({"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape"})
_TOO_MANY_REQUESTS: Final = 429


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a file.

    Attributes:
        data: its bytes.
        media_type: as in `text/csv`.
        name: its name; "" where it has none.
        charset: what it says that its text is written in; "" where it does not say.
    """

    data: bytes
    media_type: str
    name: str = ""
    charset: str = ""

    @property
    def text(self) -> str:
        """Its text: in the charset that it names, else UTF-16 or UTF-8, else what Windows writes in the West."""
        marked = self.data.startswith((b"\xff\xfe", b"\xfe\xff"))
        for charset in filter(None, (self.charset, "utf-16" if marked else "", "utf-8-sig")):
            try:
                return self.data.decode(charset)
            except (LookupError, UnicodeError):
                continue
        return self.data.decode("cp1252", "replace")

    @property
    def base64(self) -> str:
        """Its bytes in base64."""
        return base64.b64encode(self.data).decode("ascii")

    @property
    def address(self) -> str:
        """It as a `data:` address."""
        name = f";name={quote(self.name)}" if self.name else ""
        charset = f";charset={self.charset}" if self.charset else ""
        return f"data:{self.media_type}{name}{charset};base64,{self.base64}"


async def content_of(file: str) -> Content:
    """What is in `file`.

    Raises:
        BadInput: its address is broken, may not be reached, or leads to nothing or to too much.
        Transient: its host does not answer now.
    """
    address = file.strip()
    if head := _DATA.match(address):
        return _inline(head, address[head.end() :])
    if _WEB.fullmatch(address):
        return await _fetched(address)
    return Content(file.encode("utf-8", "replace"), "text/plain", charset="utf-8")


def is_address(file: str) -> bool:
    """Whether `file` says where the file is, or holds it as an address; else it is the content itself."""
    address = file.strip()
    return bool(_DATA.match(address) or _WEB.fullmatch(address))


def _inline(head: re.Match[str], data: str) -> Content:
    given = [part.partition("=") for part in head["parameters"].split(";") if part]
    parameters = {key.strip().lower(): value for key, _, value in given}
    content = _decoded(data) if "base64" in parameters else unquote_to_bytes(data)
    return Content(
        content,
        (head["type"] or "text/plain").lower(),
        unquote(parameters.get("name", "")),
        _charset(parameters.get("charset", "")),
    )


def _decoded(data: str) -> bytes:
    """The bytes that base64 `data` mean, also in its form for addresses, wrapped, or without its padding."""
    text = "".join(unquote(data).split()).translate(_WEB_SAFE).rstrip("=")
    try:
        if _BASE64.fullmatch(text):
            return base64.b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        pass
    raise BadInput("the file's data: address is not valid base64")


async def _fetched(address: str) -> Content:
    reply = await fetch("GET", address, {}, Body(), Limits.from_settings())
    parts = urlsplit(address)
    if reply.status >= 500 or reply.status == _TOO_MANY_REQUESTS:
        raise Transient(f"{parts.hostname} answered {reply.status}", after=retry_after(reply.headers))
    if not 200 <= reply.status < 300:
        raise BadInput(f"the file cannot be had: {parts.hostname} answered {reply.status}")
    _, _, charset = reply.headers.get("content-type", "").partition("charset=")
    name = unquote(parts.path.rpartition("/")[2])
    media_type = reply.media_type or "application/octet-stream"
    return Content(reply.body, media_type, name, _charset(charset.partition(";")[0].strip(" \"'")))


def _charset(name: str) -> str:
    return name.lower() if _CHARSET.fullmatch(name) and name.lower() not in _NOT_FOR_TEXT else ""
