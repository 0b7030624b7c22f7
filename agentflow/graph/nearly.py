"""Suggests the known name that a misspelt one was probably meant to be."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_MIN_SIMILARITY: Final = 0.75
"""Minimum similarity of two names, from 0 to 1: about one wrong letter in four, two in eight."""

_MAX_COMPARED: Final = 100  # characters of a name that are compared

MAX_HINTS: Final = 100
"""Suggestions per document."""


def meant(name: str, known: Iterable[str]) -> str | None:
    """The known name most similar to `name`, or None if none is similar enough."""
    found = get_close_matches(name[:_MAX_COMPARED], [one for one in known if one != name], n=1, cutoff=_MIN_SIMILARITY)
    return found[0] if found else None


class Hints:
    """Suggests names for at most `MAX_HINTS` misspelt ones: each look-up takes time, and more are no typing errors."""

    def __init__(self) -> None:
        self._left = MAX_HINTS

    def meant(self, name: str, known: Iterable[str]) -> str | None:
        """As `meant`; None also when the limit is used up."""
        if not self._left:
            return None
        self._left -= 1
        return meant(name, known)

    def hint(self, name: str, known: Iterable[str]) -> str:
        """`; did you mean 'x'?`, or an empty text."""
        found = self.meant(name, known)
        return f"; did you mean '{found}'?" if found else ""
