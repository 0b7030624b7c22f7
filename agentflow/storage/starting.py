"""Lets a starting process wait for PostgreSQL, which may be starting, too; what waiting cannot mend ends it at once."""

import time
from collections.abc import Callable
from typing import Final

from agentflow.clock import monotonic
from agentflow.errors import Unavailable
from agentflow.storage import migrate

_FIRST_PAUSE: Final = 0.2  # seconds between two looks; each is twice as long as the one before
_LONGEST_PAUSE: Final = 5.0
_SAID_EVERY: Final = 60.0  # seconds between two lines about it


def await_schema(url: str, patience: float | None, say: Callable[[str], object]) -> None:
    """Wait until the database at `url` can be reached, and check that it has this version's schema.

    Args:
        url: the database's address.
        patience: seconds to wait for it at most; None: for ever.
        say: is given a line to show at the first look that fails, and once a minute after that.

    Raises:
        Unavailable: it could not be reached for so long.
        Refused: it does not let us in.
        WrongSchema: it has another schema, or none.
    """
    began, pause, say_at = monotonic(), _FIRST_PAUSE, 0.0
    while True:
        try:
            migrate.check(url)
            return
        except Unavailable as error:
            waited = monotonic() - began
            if patience is not None and waited + pause > patience:
                raise
            if waited >= say_at:
                say(f"waiting for the database: {error.message}")
                say_at = waited + _SAID_EVERY
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
