"""Defines valid names, by one rule for the places that set a name and for those that look it up.

A name is a text of 1 to 200 characters without control characters (they forge log lines, and PostgreSQL cannot store
NUL). Names that are used in URLs or filters are stricter: an event's name may hold `/`, but no part of it may be empty,
`.` or `..`, because clients and proxies remove such parts from URLs; a label's name holds no `=`.
"""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

MAX_NAME: Final = 200
"""Characters in a name."""

LANE: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
"""Pattern of a lane's name. It is part of a queue's name, and workers list their lanes separated by commas."""

RESERVED_LANE: Final = "notifications"
"""The lane of what delivers notifications, which no graph may name."""

_PLAIN: Final = r"^[^\x00-\x1f\x7f]*$"
_NEVER_IN_A_NAME: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_NOT_IN_A_URL: Final = frozenset({"", ".", ".."})


def checked(name: str) -> str:
    """Returns `name` if it is a valid name.

    Raises:
        ValueError: it is not. The message gives the reason and does not repeat the name.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise ValueError(f"a name is a text of 1 to {MAX_NAME} characters")
    if _NEVER_IN_A_NAME.search(name):
        raise ValueError("a name has no control characters, and no half of a surrogate pair")
    return name


def checked_event(name: str) -> str:
    """Returns `name` if it is a valid name for an event.

    Raises:
        ValueError: it is not. The message gives the reason and does not repeat the name.
    """
    if not _NOT_IN_A_URL.isdisjoint(checked(name).split("/")):
        raise ValueError("the name of an event can stand in an address: no part between its '/' is empty, '.' or '..'")
    return name


def checked_id(name: str) -> str:
    """Returns `name` if it can be a single path segment of a URL.

    Raises:
        ValueError: it cannot. The message gives the reason and does not repeat the name.
    """
    if "/" in checked_event(name):
        raise ValueError("an id that stands in an address has no '/'")
    return name


def checked_lane(name: str) -> str:
    """Returns `name` if it is a valid name for a lane.

    Raises:
        ValueError: it is not. The message gives the reason and does not repeat the name.
    """
    if not isinstance(name, str) or not re.fullmatch(LANE, name):
        raise ValueError("a lane is named by up to 63 of A-Z, a-z, 0-9, '_', '.' and '-', a letter or a digit first")
    return name


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=_PLAIN), AfterValidator(checked)]
"""Any name."""

EventName = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=_PLAIN), AfterValidator(checked_event)]
"""The name of an external event."""

LabelName = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=r"^[^\x00-\x1f\x7f=]*$")]
"""The name of a label. Filters write `name=value`."""

LabelValue = Annotated[str, Field(max_length=MAX_NAME, pattern=_PLAIN)]
"""The value of a label."""


def _of_a_graph(name: str) -> str:
    if name == RESERVED_LANE:
        raise ValueError(f"the lane {name!r} is for what delivers notifications")
    return name


Lane = Annotated[str, Field(pattern=LANE), AfterValidator(_of_a_graph)]
"""The name of a lane that a graph may name: `cpu`, `io`, or any other that workers subscribe to."""
