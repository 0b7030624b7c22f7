"""Knows time zones by their names in the IANA database: the host's copy, or that of `tzdata` where it has none."""

from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

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
    raise BadInput(f"there is no time zone called {name[:60]!r}; {_hint(name)}")


def _hint(name: str) -> str:
    """The zone that was probably meant, which has that city."""
    found = _by_city().get(name[:60].rpartition("/")[2].replace(" ", "_").casefold())
    return f"did you mean {found!r}?" if found else "try one such as Europe/Paris"


@cache
def _by_city() -> dict[str, str]:
    """City, without capitals → the zone."""
    names = (one for one in available_timezones() if not one.startswith(_OF_THE_HOST))
    return {one.rpartition("/")[2].casefold(): one for one in sorted(names)}
