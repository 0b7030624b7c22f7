"""Makes and reads cursors: opaque texts with a list's name and the key of the last item of a page.

The name includes the run or graph that the list belongs to, so that a cursor of another list is refused.
"""

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from agentflow.errors import Malformed

_Row = TypeVar("_Row")


class PageRequest(NamedTuple):
    """Which page of a list: the one behind the cursor `after` (None: the first), with `limit` items at most."""

    after: str | None
    limit: int

    def cut(
        self, of: str, found: Sequence[_Row], key: Callable[[_Row], tuple[int | UUID, ...]]
    ) -> tuple[list[_Row], str | None]:
        """The rows of the page and the next page's cursor, from up to `limit` + 1 rows of the list `of`."""
        rows = list(found[: self.limit])
        return rows, cursor(of, *key(rows[-1])) if len(found) > self.limit else None


def cursor(of: str, *key: int | str | UUID) -> str:
    """The cursor for `key` in the list `of`."""
    text = json.dumps([of, *(part if isinstance(part, int) else str(part) for part in key)], separators=(",", ":"))
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def integers(of: str, text: str | None, length: int) -> tuple[int, ...] | None:
    """The `length` integers in a cursor of the list `of`; None for no cursor.

    Raises:
        Malformed: it is no cursor of this list.
    """
    if text is None:
        return None
    key = _decode(of, text)
    limit = 2**31
    if len(key) != length or not all(type(part) is int and -limit <= part < limit for part in key):
        raise Malformed(f"{text!r} is no cursor of this list")
    return tuple(key)


def identifier(of: str, text: str | None) -> UUID | None:
    """The id in a cursor of the list `of`; None for no cursor.

    Raises:
        Malformed: it is no cursor of this list.
    """
    if text is None:
        return None
    key = _decode(of, text)
    try:
        (only,) = key
        return UUID(only)
    except (ValueError, TypeError, AttributeError):
        raise Malformed(f"{text!r} is no cursor of this list") from None


def identifiers(of: str, text: str | None) -> tuple[UUID, UUID] | None:
    """The two ids in a cursor of the list `of`; None for no cursor.

    Raises:
        Malformed: it is no cursor of this list.
    """
    if text is None:
        return None
    key = _decode(of, text)
    try:
        first, second = key
        return UUID(first), UUID(second)
    except (ValueError, TypeError, AttributeError):
        raise Malformed(f"{text!r} is no cursor of this list") from None


def _decode(of: str, text: str) -> list[Any]:  # callers check the rest
    try:
        key = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        raise Malformed(f"{text!r} is no cursor of this list") from None
    return key[1:] if isinstance(key, list) and key[:1] == [of] else []
