"""Unpacks compressed replies in bounded steps, whatever size they claim.

A few kilobytes of gzip can hold gigabytes of zeros. A decoder without a bound would fill the memory before its output
could be counted.
"""

import zlib
from typing import Final

_GZIP: Final = zlib.MAX_WBITS | 16
_ZLIB: Final = zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS

OFFERED: Final = "gzip, deflate"
"""The supported encodings, for the Accept-Encoding header."""


class Damaged(Exception):
    """The compressed data are broken or incomplete."""


class Unpacker:
    """Unpacks the body of one reply.

    Args:
        encoding: the Content-Encoding: "", "identity", "gzip", "x-gzip" or "deflate".

    Raises:
        LookupError: another encoding.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding.strip().lower().removeprefix("x-")
        if self._encoding not in ("", "identity", "gzip", "deflate"):
            raise LookupError(encoding)
        self._plain = self._encoding in ("", "identity")
        self._stream: zlib._Decompress | None = None

    def feed(self, data: bytes, room: int) -> bytes:
        """The next part of the body, at most `room` + 1 bytes. More than `room` means that the body is too large.

        Raises:
            Damaged: the data do not match the encoding.
        """
        if self._plain:
            return data[: room + 1]
        parts: list[bytes] = []
        while data and room >= 0:
            if self._stream is None:
                self._stream = zlib.decompressobj(self._window(data))
            try:
                part = self._stream.decompress(data, room + 1)
            except zlib.error as error:
                raise Damaged(str(error)) from None
            parts.append(part)
            room -= len(part)
            data = self._rest()
        return b"".join(parts)

    def close(self) -> None:
        """Marks the end of the data.

        Raises:
            Damaged: the data stop in the middle.
        """
        if self._stream is not None and not self._stream.eof:
            raise Damaged("the data stop in the middle")

    def _rest(self) -> bytes:
        """The data after a finished gzip member, which is the next member. Data after deflate are ignored."""
        stream = self._stream
        if stream is None or not stream.eof:
            return b""  # if the limit held data back, `room` is below 0
        if self._encoding != "gzip" or not stream.unused_data.rstrip(b"\0"):
            return b""
        self._stream = None
        return stream.unused_data

    def _window(self, data: bytes) -> int:
        """The window size for zlib. Some servers send deflate without its header, whose first byte ends in 8."""
        if self._encoding == "gzip":
            return _GZIP
        return _ZLIB if data[0] & 0x0F == 8 else _RAW
