"""Pauses, resumes, retries and forks runs, and delivers events and decisions to what waits in them.

Each function works in the caller's transaction, under the run's gate held alone (`sql/11_steering.sql`,
`sql/09_waiting.sql`).
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import closing, contextmanager
from itertools import groupby
from typing import Any, Literal, NamedTuple
from uuid import UUID

import psycopg
from sqlalchemy import exists, or_, select, text, update
from sqlalchemy.orm import Session

from agentflow.engine.statuses import RUN_OPEN, RUN_RETRIABLE, Hold, NodeStatus
from agentflow.errors import Unavailable
from agentflow.graph.plan import Plan
from agentflow.settings import settings
from agentflow.storage import runs
from agentflow.storage.connect import connect_hot
from agentflow.storage.runs import Created, NewRun, Ready
from agentflow.storage.tables import Delivery, NodeExecution, ParkedRoutes, Run

_COPIES = (
    "INSERT INTO node_executions (run_id, node, idx, status, reason, open, have, need, attempt, failures, losses, "
    "emitted, resumed_from, waited, stats, holder, check_at, queued_at, started_at, ended_at, error) "
    "SELECT :fork, node, idx, status, reason, false, have, need, attempt, failures, losses, "
    # What they cost was paid by the run that they are taken from.
    "emitted, resumed_from, waited, nullif(stats - '{cost,charged}'::text[], '{}'), holder, check_at, queued_at, "
    "started_at, ended_at, error FROM node_executions WHERE run_id = :run AND node = ANY (:kept)",
    "INSERT INTO outputs (run_id, node, idx, ordinal, part, pin, value) "
    "SELECT :fork, node, idx, ordinal, part, pin, value FROM outputs WHERE run_id = :run AND node = ANY (:kept)",
    "INSERT INTO deliveries (run_id, node, pin, idx, source_node, source_idx, source_ordinal, source_part, filled) "
    "SELECT :fork, node, pin, idx, source_node, source_idx, source_ordinal, source_part, filled FROM deliveries "
    "WHERE run_id = :run AND node = ANY (:kept)",
    "INSERT INTO sticky_values (run_id, node, pin, source_node, source_idx, source_ordinal, source_part) "
    "SELECT :fork, node, pin, source_node, source_idx, source_ordinal, source_part FROM sticky_values "
    "WHERE run_id = :run AND node = ANY (:kept)",
)

_PLACE = text(
    "SELECT agentflow_place(:run, :source, :idx, :ordinals, :parts, :sinks, :pins, :statics, :needs, :bases, :sticky)"
)


class Resumption(NamedTuple):
    """The result, and what must be published."""

    verdict: str
    ready: list[Ready]


class Reached(NamedTuple):
    """The result of an external event or a decision, its run, and what must be published."""

    verdict: str
    run_id: UUID | None
    ready: list[Ready]


def _ready(row: Any) -> list[Ready]:
    return [Ready(node, idx) for node, idx in zip(row.q_node or (), row.q_idx or (), strict=True)]


def pause(
    session: Session, run_id: UUID, *, as_parent: bool = False
) -> Literal["paused", "already", "ended", "unknown"]:
    """Let nothing of the run start any more. `as_parent`: only if its parent is paused."""
    verdict: Literal["paused", "already", "ended", "unknown"] = session.execute(
        text("SELECT agentflow_pause(:run, :as_parent)"), {"run": run_id, "as_parent": as_parent}
    ).scalar_one()
    return verdict


def passed_down(session: Session, run_id: UUID, paused: bool) -> None:
    """Note that all child runs of a run have followed a pause or a resume, unless the opposite was done meanwhile."""
    is_paused = Run.paused_at.is_not(None)
    session.execute(update(Run).where(Run.id == run_id, is_paused == paused).values(passing_down_at=None))


def resume(session: Session, run_id: UUID, *, as_parent: bool = False) -> Resumption:
    """Let the run continue, or queue for a place among the active ones. Verdicts: as for `pause`, but `resumed`.

    `as_parent`: only if its parent is not paused.
    """
    most, window = settings().max_active_runs, settings().ready_window
    row = session.execute(
        text("SELECT * FROM agentflow_resume(:run, :as_parent, :most, :window)"),
        {"run": run_id, "as_parent": as_parent, "most": most, "window": window},
    ).one()
    return Resumption(row.verdict, _ready(row))


def to_suspend(session: Session, owner_id: UUID, limit: int) -> Sequence[UUID]:
    """Open runs of a user that are not paused, child runs after their parents."""
    return session.scalars(
        select(Run.id)
        .where(
            Run.owner_id == owner_id,
            Run.status.in_(RUN_OPEN),
            Run.paused_at.is_(None),
            Run.stop_as.is_(None),
        )
        .order_by(Run.depth, Run.id)
        .limit(limit)
    ).all()


def suspended(session: Session, owner_id: UUID, limit: int) -> Sequence[UUID]:
    """Runs of a user that were paused because they were suspended, child runs after their parents."""
    return session.scalars(
        select(Run.id).where(Run.owner_id == owner_id, Run.suspended).order_by(Run.depth, Run.id).limit(limit)
    ).all()


def suspend(session: Session, owner_id: UUID, run_id: UUID) -> None:
    """Pause a run and mark it, if its owner is still suspended: they stay so until this transaction ends."""
    if session.scalar(_HELD_USER, {"user": owner_id}):
        session.execute(text("SELECT agentflow_suspend(:run)"), {"run": run_id})


def unsuspend(session: Session, owner_id: UUID, run_id: UUID) -> Resumption | None:
    """Let a marked run go on and take its mark, if its owner is still there and not suspended; None: they are not.

    It stays paused if it is a child run and its parent stays so.
    """
    if session.scalar(_HELD_USER, {"user": owner_id}) is not False:
        return None
    outcome = resume(session, run_id, as_parent=True)
    session.execute(update(Run).where(Run.id == run_id).values(suspended=False))
    return outcome


_HELD_USER = text("SELECT suspended_at IS NOT NULL FROM users WHERE id = :user FOR SHARE")


def retry(session: Session, run_id: UUID, unhandled: Sequence[int], deadline: float | None) -> Resumption:
    """Open an ended run again. Verdicts: `sql/11_steering.sql`.

    Args:
        session: the transaction.
        run_id: the run.
        unhandled: nodes whose failures nothing handles.
        deadline: seconds from now in which it must end; None: there is no deadline.
    """
    row = session.execute(
        text("SELECT * FROM agentflow_retry(:run, :unhandled, :deadline, :window)"),
        {"run": run_id, "unhandled": list(unhandled), "deadline": deadline, "window": settings().ready_window},
    ).one()
    return Resumption(row.verdict, _ready(row))


@contextmanager
def tree_held(root_id: UUID) -> Iterator[None]:
    """Mark a tree of runs as being retried, run after run: none of it counts as an orphan meanwhile.

    A connection of its own holds the mark, so that it ends with this process at the latest.

    Raises:
        Unavailable: PostgreSQL cannot be reached.
    """
    with closing(connect_hot()) as connection:
        try:
            connection.execute("SELECT agentflow_hold_tree(%s)", (root_id,))
        except psycopg.OperationalError as error:
            raise Unavailable("PostgreSQL cannot be reached, or is too busy") from error
        yield


def children_to_retry(session: Session, run_id: UUID, unhandled: Sequence[int]) -> Sequence[UUID]:
    """Child runs that ended FAILED or CANCELLED and whose node executions a retry of `run_id` would run again."""
    again = or_(
        NodeExecution.status == NodeStatus.CANCELLED,
        (NodeExecution.status == NodeStatus.FAILED) & NodeExecution.node.in_(unhandled),
    )
    return session.scalars(
        select(Run.id)
        .join(
            NodeExecution,
            (NodeExecution.run_id == Run.parent_run_id)
            & (NodeExecution.node == Run.parent_node)
            & (NodeExecution.idx == Run.parent_idx),
        )
        .where(Run.parent_run_id == run_id, Run.status.in_(RUN_RETRIABLE), again)
    ).all()


def signal(session: Session, run_id: UUID, name: str, payload: str) -> Reached:
    """Deliver an external event; `payload` is JSON text. Verdicts: `sql/09_waiting.sql`."""
    row = session.execute(
        text("SELECT * FROM agentflow_signal(:run, :name, :payload, :most)"),
        {"run": run_id, "name": name, "payload": payload, "most": settings().max_signals},
    ).one()
    return Reached(row.verdict, run_id, _ready(row))


def decide(
    session: Session, owner_id: UUID, review_id: UUID, *, approve: bool, data: str | None, message: str, rest: bool
) -> Reached:
    """Record a person's decision; `data`: the edited data, as JSON text. Verdicts: `sql/09_waiting.sql`."""
    row = session.execute(
        text("SELECT * FROM agentflow_review(:review, :owner, :approve, :data, :message, :rest)"),
        {
            "review": review_id,
            "owner": owner_id,
            "approve": approve,
            "data": data,
            "message": message,
            "rest": rest,
        },
    ).one()
    return Reached(row.verdict, row.run_id, _ready(row))


def hold_as_it_is(session: Session, run_id: UUID) -> None:
    """Let nobody retry an ended run until this transaction ends."""
    session.execute(text("SELECT agentflow_gate_shared(:run)"), {"run": run_id})


def fork(session: Session, source: UUID, new: NewRun, anew: Set[int]) -> Created:
    """Write a run that takes over what `source` did, but for the nodes in `anew`, which run again from their inputs.

    Args:
        source: an ended run, which the caller has held (`hold_as_it_is`) since before it saw that it had ended.
        new: the fork; its plan is the source's.
        anew: numbers of nodes, closed under what is downstream.

    Returns:
        what is to be done after the commit.

    Raises:
        AtLimit: as in `runs.create`.
    """
    plan = new.plan.masked(new.masks) if new.masks else new.plan
    made = runs.create(session, new, only=anew, forked_from=source)
    kept = [node.number for node in plan.nodes if node.number not in anew]
    for statement in _COPIES:
        session.execute(text(statement), {"fork": new.id, "run": source, "kept": kept})
    _deliver_again(session, source, new.id, plan, kept, anew)
    admitted = session.scalar(select(exists().where(Run.id == new.id, Run.admitted_at.is_not(None))))
    session.execute(
        update(NodeExecution)
        .where(NodeExecution.run_id == new.id, NodeExecution.status == NodeStatus.QUEUED)
        .values(hold=Hold.WINDOW if admitted else Hold.ADMISSION, check_at=text("'infinity'"))
    )
    if not admitted:
        return made._replace(ready=())
    row = session.execute(
        text("SELECT * FROM agentflow_unhold(:run, 'window', :window)"),
        {"run": new.id, "window": settings().ready_window},
    ).one()
    return made._replace(ready=_ready(row))


class _Arrival(NamedTuple):
    """An output of a node that is taken over, on its way to a node that runs again."""

    sink: int
    source: int
    source_idx: int
    ordinal: int
    part: int
    pin: str


def _deliver_again(session: Session, source: UUID, fork_id: UUID, plan: Plan, kept: list[int], anew: Set[int]) -> None:
    """Deliver what nodes that are taken over gave to nodes that run again, in the same order."""
    static: Mapping[tuple[int, int, str], bool] = {
        (node.number, link.sink, link.sink_pin): link.static for node in plan.nodes for link in node.links
    }
    arrivals = [*_delivered(session, source, kept, anew), *_kept_back(session, source, kept, anew)]
    arrivals = [one for one in arrivals if one.pin in plan.nodes[one.sink].pins]  # the others are masked now
    for (_, producer), group in groupby(arrivals, key=lambda one: (one.sink, one.source)):
        values = list(group)
        sink = plan.nodes[values[0].sink]
        session.execute(
            _PLACE,
            {
                "run": fork_id,
                "source": producer,
                "idx": [one.source_idx for one in values],
                "ordinals": [one.ordinal for one in values],
                "parts": [one.part for one in values],
                "sinks": [sink.number for _ in values],
                "pins": [one.pin for one in values],
                "statics": [static[producer, sink.number, one.pin] for one in values],
                "needs": [sink.need for _ in values],
                "bases": [sink.base_of(one.pin) for one in values],
                "sticky": [sink.has_static for _ in values],
            },
        )


def _delivered(session: Session, run_id: UUID, kept: list[int], anew: Set[int]) -> list[_Arrival]:
    found = session.scalars(
        select(Delivery)
        .where(
            Delivery.run_id == run_id,
            Delivery.node.in_(anew),
            Delivery.source_node.in_(kept),
            Delivery.filled.is_(False),
        )
        .order_by(Delivery.node, Delivery.idx, Delivery.pin)
    )
    return [
        _Arrival(one.node, one.source_node, one.source_idx, one.source_ordinal, one.source_part, one.pin)
        for one in found
    ]


def _kept_back(session: Session, run_id: UUID, kept: list[int], anew: Set[int]) -> list[_Arrival]:
    """Outputs that waited for their turn when the run was stopped, and so were never delivered."""
    parked = session.scalars(
        select(ParkedRoutes)
        .where(ParkedRoutes.run_id == run_id, ParkedRoutes.node.in_(kept))
        .order_by(ParkedRoutes.node, ParkedRoutes.idx, ParkedRoutes.first)
    )
    return [
        _Arrival(sink, held.node, held.idx, ordinal, part, pin)
        for held in parked
        for ordinal, part, sink, pin in zip(held.ordinals, held.parts, held.sinks, held.pins, strict=True)
        if sink in anew
    ]
