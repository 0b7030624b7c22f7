"""Reads the content of files that a graph passes along, and writes it as a `data:` address.

A file is a text: a `data:` address, an http(s) address (fetched within the limits of all web blocks), or the content
itself. The worker's own disk is never read or written.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

from agentflow.errors import BadInput, Transient
from agentflow.net.answers import retry_after
from agentflow.net.fetching import Body, Limits, fetch
from agentflow.texts import ContentType, encoding, text_of, without_mark

_DATA: Final = re.compile(
    r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?P<parameters>(?:;[^;,\r\n]*)*),", re.ASCII | re.IGNORECASE
)
_WEB: Final = re.compile(r"https?://\S+", re.ASCII | re.IGNORECASE)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]*")
_WEB_SAFE: Final = str.maketrans("-_", "+/")
_TOO_MANY_REQUESTS: Final = 429


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a file.

    Attributes:
        data: the bytes.
        media_type: as in `text/csv`.
        name: the file's name, or "".
        charset: the declared charset of its text, or "".
    """

    data: bytes
    media_type: str
    name: str = ""
    charset: str = ""

    @property
    def text(self) -> str:
        """The content as text."""
        return text_of(self.data, self.charset, self.media_type)

    @property
    def base64(self) -> str:
        """The bytes in base64."""
        return base64.b64encode(self.data).decode("ascii")

    @property
    def address(self) -> str:
        """The file as a `data:` address."""
        name = f";name={quote(self.name)}" if self.name else ""
        charset = f";charset={self.charset}" if self.charset else ""
        return f"data:{self.media_type}{name}{charset};base64,{self.base64}"


async def content_of(file: str) -> Content:
    """The content of `file`.

    Raises:
        BadInput: its address is invalid, may not be reached, or leads to nothing or to too much.
        Transient: its host does not answer now.
    """
    address = without_mark(file).strip()
    if head := _DATA.match(address):
        return _inline(head, address[head.end() :])
    if _WEB.fullmatch(address):
        return await _fetched(address)
    return Content(file.encode("utf-8", "replace"), "text/plain", charset="utf-8")


def is_address(file: str) -> bool:
    """Whether `file` is an address; otherwise it is the content itself."""
    address = without_mark(file).strip()
    return bool(_DATA.match(address) or _WEB.fullmatch(address))


def _inline(head: re.Match[str], data: str) -> Content:
    said = ContentType.parse((head["type"] or "text/plain") + head["parameters"])
    content = _decoded(data) if "base64" in said.parameters else unquote_to_bytes(data)
    return Content(content, said.media_type, unquote(said.parameters.get("name", "")), _charset(said))


def _decoded(data: str) -> bytes:
    """The bytes of base64 `data`, also in its URL-safe form, with line breaks, or without padding."""
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
    name, said = unquote(parts.path.rpartition("/")[2]), reply.content_type
    return Content(reply.body, said.media_type or "application/octet-stream", name, _charset(said))


def _charset(said: ContentType) -> str:
    """The charset in a form for addresses; "" if it is not a known one."""
    return said.charset.lower() if encoding(said.charset) else ""
