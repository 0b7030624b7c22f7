"""Starts runs: the one way for submissions, inline graphs, child runs, forks and single blocks.

Callers check what may start. This writes the run with its starting node executions, and publishes those after the
commit.
"""

from collections.abc import Set
from dataclasses import dataclass, replace
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.dispatch import PublishedRun, publish, publish_examination, publish_finaliser
from agentflow.moderation import checking as moderation
from agentflow.services.cancellation import cancel_superseded
from agentflow.services.transaction import after_commit
from agentflow.storage import runs, steering
from agentflow.storage.runs import NewRun


@dataclass(frozen=True, slots=True)
class Fork:
    """What a fork takes over: all that the ended run `source` did, except the nodes in `anew`, which run again."""

    source: UUID
    anew: Set[int]


def start(session: Session, new: NewRun, fork: Fork | None = None) -> None:
    """Start a run, or hold it until moderation has passed it; a child run that exists is not started again.

    `fork`: what it takes over from another run.
    """
    if moderation.is_on() and new.parent is None:
        new = replace(new, examine=True)
        after_commit(session, lambda: publish_examination(new.id))
    published = PublishedRun(new.id, new.plan, new.urgency, new.owner_id)
    if fork is None:
        made = runs.create(session, new)
        after_commit(session, lambda: publish(published, made.ready))
    else:
        made = steering.fork(session, fork.source, new, fork.anew)
        # A fork may have nothing left to run.
        after_commit(session, lambda: publish(published, made.ready) if made.ready else publish_finaliser(new.id))
    if made.superseded:
        after_commit(session, lambda: cancel_superseded(made.superseded))
