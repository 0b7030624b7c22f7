"""Tells what somebody meant who wrote a name that does not exist."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_ALIKE: Final = 0.75
"""How alike two names must be, from 0 to 1: one wrong letter in four, two in eight."""

_LONGEST: Final = 100  # characters of a name that are compared

MAX_HINTS: Final = 100
"""Names of one document of which is said what was meant."""


def meant(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `name`; None: none is."""
    found = get_close_matches(name[:_LONGEST], [one for one in known if one != name], n=1, cutoff=_ALIKE)
    return found[0] if found else None


class Hints:
    """What was meant by the first `MAX_HINTS` names: each look takes time, and whoever has more is not mistyping."""

    def __init__(self) -> None:
        self._left = MAX_HINTS

    def meant(self, name: str, known: Iterable[str]) -> str | None:
        """See `meant`; None too where enough was said."""
        if not self._left:
            return None
        self._left -= 1
        return meant(name, known)

    def hint(self, name: str, known: Iterable[str]) -> str:
        """`; did you mean 'x'?`, or nothing."""
        found = self.meant(name, known)
        return f"; did you mean '{found}'?" if found else ""
