"""Tells the time within one process.

Decisions about node executions (leases, timers, republishing) use the database's clock, `agentflow_now()`, because many
hosts take part in them.
"""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """The present time, in UTC, timezone-aware."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds on a clock that never goes back. Only differences are meaningful."""
    return time.monotonic()
