"""Does the chores of notifications: plans what the outbox holds, calls workers for channels, finds what is to be told.

A pass without work costs one look. What is sent is sent by tasks on a queue of their own, so that no receiver holds up
recovery.
"""

import logging
from collections.abc import Callable
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.dispatch import wake
from agentflow.dispatch.publish import publish_channels, waiting_channels
from agentflow.notifications import delivery, planning, store, summaries, watching
from agentflow.services.transaction import transaction
from agentflow.settings import settings
from agentflow.worker.recovery import Recovery

logger = logging.getLogger(__name__)

MOST_CALLED: Final = 100
"""Channels for which a turn calls workers, and messages that may wait for them: each may be called for again."""

_CALLED_AGAIN: Final = 30.0
"""Seconds after which a channel is called for again, whose message was lost."""

MOST_DELETED: Final = 1_000

_WATCHING_SECONDS: Final = 5.0
"""Statements that look at what ran give up after so long: they read much, and may be left out once."""


def plan(recovery: Recovery) -> int:
    """Plan what the outbox holds, and call workers for the channels of which something is due."""
    to_plan, to_call = recovery.notifications_due()
    told: list[UUID] = []
    if to_plan:
        with transaction() as session:
            told = planning.plan(session)
        for reader in set(told):
            wake(reader)
    return len(told) + (call() if to_call or told else 0)


def call() -> int:
    """Call workers for channels of which something is due, unless many messages wait for them already."""
    room = MOST_CALLED - (waiting_channels() or 0)
    if room <= 0:
        return 0
    with transaction() as session:
        due = store.call_due(session, _CALLED_AGAIN, room)
    if due:
        publish_channels(due, delivery.time_limits())
    return len(due)


def summarise(_: Recovery) -> int:
    """Write the summaries that are due."""
    return _turn(summaries.write_due)


def watch_credentials(_: Recovery) -> int:
    """Tell owners of credentials that expire soon."""
    return _turn(watching.note_expiring)


def watch_blocks(_: Recovery) -> int:
    """Tell owners of blocks that fail again and again."""
    return _turn(watching.note_failing)


def tell_of_dead_letters(_: Recovery) -> int:
    """Tell admins of notifications that could not be delivered."""
    return _turn(watching.note_dead_letters)


def tidy(_: Recovery) -> int:
    """Delete old notifications."""
    with transaction() as session:
        return store.delete_older(session, settings().notification_days, MOST_DELETED)


def _turn(act: Callable[[Session], int]) -> int:
    with transaction(_WATCHING_SECONDS) as session:
        return act(session)
