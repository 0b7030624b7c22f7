"""Starts runs: the one way for submissions, inline graphs, child runs, forks and single blocks.

Callers check what may start. This writes the run with its starting node executions, and publishes those after the
commit.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow import clock
from agentflow.dispatch import PublishedRun, publish, publish_finaliser
from agentflow.graph.plan import Plan
from agentflow.ids import new_id
from agentflow.services.transaction import after_commit
from agentflow.storage import runs, steering
from agentflow.storage.runs import NewRun, Parent

DEFAULT_PRIORITY: Final = 5


@dataclass(frozen=True, slots=True)
class Fork:
    """What a fork takes over: all that the ended run `source` did, except the nodes in `anew`, which run again."""

    source: UUID
    anew: Set[int]


@dataclass(frozen=True, slots=True)
class Start:
    """A run to be started.

    Attributes:
        owner_id: whose it is.
        plan: its graph's, without the masks.
        inputs: name → value.
        masks: node id → pin → value.
        labels: the owner's marks.
        priority: 0 to 9, the most urgent; None: the graph's, else the default.
        parent: the node execution that waits for a child run. If its child exists, nothing is started.
        fork: what it takes over from another run.
        run_id: its id.
    """

    owner_id: UUID
    plan: Plan
    inputs: Mapping[str, Any] = field(default_factory=dict)
    masks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    labels: Mapping[str, Any] = field(default_factory=dict)
    priority: int | None = None
    parent: Parent | None = None
    fork: Fork | None = None
    run_id: UUID = field(default_factory=new_id)


def start(session: Session, wanted: Start) -> UUID:
    """Start a run; returns its id. Priority and deadline are its graph's, unless it names its own."""
    plan = wanted.plan
    priority = next(p for p in (wanted.priority, plan.settings.priority, DEFAULT_PRIORITY) if p is not None)
    seconds = plan.settings.deadline
    new = NewRun(
        id=wanted.run_id,
        owner_id=wanted.owner_id,
        plan=plan,
        inputs=wanted.inputs,
        masks=wanted.masks,
        labels=wanted.labels,
        priority=priority,
        deadline_at=None if seconds is None else clock.now() + timedelta(seconds=seconds),
        parent=wanted.parent,
    )
    published = PublishedRun(new.id, plan, priority)
    if wanted.fork is None:
        ready = runs.create(session, new)
        after_commit(session, lambda: publish(published, ready))
    else:
        ready = steering.fork(session, wanted.fork.source, new, wanted.fork.anew)
        # A fork may have nothing left to run.
        after_commit(session, lambda: publish(published, ready) if ready else publish_finaliser(new.id))
    return new.id
