"""Knows time zones by their names in the IANA database: the host's copy, or that of `tzdata` where it has none."""

from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agentflow.errors import BadInput

_OF_THE_HOST: Final = ("localtime", "Factory", "posixrules", "posix/", "right/")
"""Files beside the zones, which not every host has; `right/` counts leap seconds."""


def zone(name: str) -> ZoneInfo:
    """The zone of this name, such as Europe/Paris.

    Raises:
        BadInput: there is none.
    """
    try:
        if not name.startswith(_OF_THE_HOST):
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # the last two: the name leads to a folder, or out of it
        pass
    raise BadInput(f"there is no time zone called {name[:60]!r}; try one such as Europe/Paris")
