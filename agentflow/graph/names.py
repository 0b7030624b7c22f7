"""What may people call things? One rule, for the end where a name is given and for the one where it is asked for.

A name is a text of 1 to 200 characters without control characters (they forge log lines, and PostgreSQL has no form for
NUL). What is named in an address or in a filter must be possible there, too: an event's name may hold `/`, but no part
of it may be empty, `.` or `..`, which clients and proxies take out of addresses; a label's name holds no `=`.
"""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

MAX_NAME: Final = 200
"""Characters of a name."""

LANE: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
"""The name of a lane: it is part of the name of a queue, and workers list theirs with commas between."""

_PLAIN: Final = r"^[^\x00-\x1f\x7f]*$"
_UNFIT: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_NOT_IN_AN_ADDRESS: Final = frozenset({"", ".", ".."})


def checked(name: str) -> str:
    """`name`, if that may be one.

    Raises:
        ValueError: it may not; says why, and does not repeat it.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise ValueError(f"a name is a text of 1 to {MAX_NAME} characters")
    if _UNFIT.search(name):
        raise ValueError("a name has no control characters, and no half of a surrogate pair")
    return name


def checked_event(name: str) -> str:
    """`name`, if an event may be called so.

    Raises:
        ValueError: it may not; says why, and does not repeat it.
    """
    if not _NOT_IN_AN_ADDRESS.isdisjoint(checked(name).split("/")):
        raise ValueError("the name of an event can stand in an address: no part between its '/' is empty, '.' or '..'")
    return name


def checked_id(name: str) -> str:
    """`name`, if it can be one part of an address.

    Raises:
        ValueError: it cannot; says why, and does not repeat it.
    """
    if "/" in checked_event(name):
        raise ValueError("an id that stands in an address has no '/'")
    return name


def checked_lane(name: str) -> str:
    """`name`, if a lane of workers may be called so.

    Raises:
        ValueError: it may not; says why, and does not repeat it.
    """
    if not isinstance(name, str) or not re.fullmatch(LANE, name):
        raise ValueError("a lane is named by up to 63 of A-Z, a-z, 0-9, '_', '.' and '-', a letter or a digit first")
    return name


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=_PLAIN), AfterValidator(checked)]
"""The name of something."""

EventName = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=_PLAIN), AfterValidator(checked_event)]
"""The name of an external event."""

LabelName = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=r"^[^\x00-\x1f\x7f=]*$")]
"""The name of a label: it is looked for as `name=value`."""

LabelValue = Annotated[str, Field(max_length=MAX_NAME, pattern=_PLAIN)]
"""The value of a label."""

Lane = Annotated[str, Field(pattern=LANE)]
"""The name of a lane: `cpu`, `io`, or one that workers subscribe to."""
