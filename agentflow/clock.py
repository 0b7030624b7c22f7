"""What time is it? One clock for the Python side.

Decisions about node executions (leases, timers, rings) use the database's clock, `agentflow_now()`, because many
hosts take part in them. This one serves what concerns one process only.
"""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """The present time, in UTC, timezone-aware."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds on a clock that never goes back; only differences mean anything."""
    return time.monotonic()
