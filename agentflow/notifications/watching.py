"""Looks now and then for what somebody is to be told of: failing blocks, credentials that expire, dead letters."""

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.clock import now
from agentflow.errors import ClientError
from agentflow.notifications import service, store
from agentflow.notifications.kinds import Kind
from agentflow.services.plans import plan_of
from agentflow.storage import graphs
from agentflow.storage.views import activity

WINDOW: Final = timedelta(minutes=60)
"""Over which executions of a block are counted, and in which its owner is told of it once."""

MOST_OWNERS: Final = 100
"""Owners whose blocks one turn looks at."""

MOST_CREDENTIALS: Final = 1_000

MOST_LETTERS: Final = 1

EXPIRES_WITHIN: Final = 7
"""Days before a credential expires in which its owner is told."""

LEAST_EXECUTIONS: Final = 10
LEAST_SHARE: Final = 0.5
"""A block keeps failing if it executed so often, and so large a share of that failed."""

_MOST_RUNS: Final = 200
"""Runs of an owner that are looked at, the newest."""

_LONGEST_ERROR: Final = 300


@dataclass(slots=True)
class _Count:
    executions: int = 0
    failed: int = 0
    error: str | None = None
    graph_id: UUID | None = None


def keeps_failing(executions: int, failed: int) -> bool:
    """Whether a block with these numbers does."""
    return executions >= LEAST_EXECUTIONS and failed >= executions * LEAST_SHARE


def note_failing(session: Session) -> int:
    """Tell owners who can be reached of their blocks that keep failing, once an hour; returns how many are told."""
    at = now()
    since = at - WINDOW
    told = 0
    for owner_id in activity.with_failures(session, since, MOST_OWNERS):
        counts: dict[str, _Count] = defaultdict(_Count)
        for one in activity.by_node(session, owner_id, since, _MOST_RUNS):
            with suppress(ClientError, IndexError):  # its graph is gone, or blocks of it are
                count = counts[plan_of(session, one.graph_id, one.graph_version).nodes[one.node].block_name]
                count.executions += one.executions
                count.failed += one.failed
                if one.failed:
                    count.error, count.graph_id = one.error, one.graph_id
        for block, count in counts.items():
            if keeps_failing(count.executions, count.failed):
                told += _note(session, owner_id, block, count, int(at.timestamp() // WINDOW.total_seconds()))
    return told


def _note(session: Session, owner_id: UUID, block: str, count: _Count, hour: int) -> bool:
    head = graphs.find(session, owner_id, count.graph_id) if count.graph_id else None
    data = {
        "block": block,
        "executions": count.executions,
        "failed": count.failed,
        "minutes": int(WINDOW.total_seconds() // 60),
        "error": (count.error or "")[:_LONGEST_ERROR],
        "graph_name": None if head is None else head.name[:200],
    }
    return service.note(session, owner_id, Kind.BLOCK_FAILING, f"block-failing:{block}:{hour}", data) is not None


def note_expiring(session: Session) -> int:
    """Tell owners of credentials that expire soon, once for each; returns how many are told."""
    return store.note_expiring(session, EXPIRES_WITHIN, MOST_CREDENTIALS)


def note_dead_letters(session: Session) -> int:
    """Tell admins that there are new dead letters, at most once an hour. Of those about dead letters nobody is told."""
    hour = now().replace(minute=0, second=0, microsecond=0)
    number, error = store.died_since(session, hour, Kind.DEAD_LETTERS)
    if number == 0:
        return 0
    data = {"count": number, "error": error}
    return service.note_admins(session, Kind.DEAD_LETTERS, f"dead-letters:{hour.isoformat()}", data)
