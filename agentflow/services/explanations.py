"""Explains in words what keeps a run from continuing.

People, times, events, limits and who holds them, workers, its admission, other runs.
"""

import shlex
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow import clock
from agentflow.engine.statuses import Hold, NodeStatus, RunStatus
from agentflow.graph.plan import Plan
from agentflow.schemas.runs import Reason, RunExplanation
from agentflow.services import run_views as runs
from agentflow.services.plans import plan_of
from agentflow.settings import settings
from agentflow.storage import lanes
from agentflow.storage.views import explaining
from agentflow.storage.views import node_executions as node_views
from agentflow.storage.views import runs as run_views
from agentflow.storage.views.explaining import Group
from agentflow.storage.views.node_executions import Key
from agentflow.storage.views.runs import AnyRow

MOST_GROUPS: Final = 50
"""Sorts of open node executions (by node and how they stand) that are told."""

MOST_HOLDERS: Final = 5
"""Holders of a limit that are named."""


def explain(session: Session, owner_id: UUID, run_id: UUID) -> RunExplanation:
    """What a run waits for: first as a whole, then node by node in the graph's order.

    Raises:
        NotFound: the owner has no such run.
    """
    run = runs.find(session, owner_id, run_id)
    if run.ended_at is not None:
        reasons = [Reason(message=f"it has ended: {run.status}" + (f", {run.error}" if run.error else ""))]
        return RunExplanation(run_id=run_id, status=run.status, reasons=reasons)
    plan = plan_of(session, run.graph_id, run.graph_version)
    found = explaining.groups(session, run_id, MOST_GROUPS + 1)
    reasons = list(_of_the_run(session, owner_id, run, plan, list(found)))
    served = lanes.served(session)
    for group in found[:MOST_GROUPS]:
        reasons += _of_a_node(session, run_id, plan, group, served)
    if not found:
        reasons.append(Reason(message="nothing of it is open: it is about to end, or goes on in a moment"))
    return RunExplanation(run_id=run_id, status=run.status, reasons=reasons, truncated=len(found) > MOST_GROUPS)


def _of_the_run(session: Session, owner_id: UUID, run: AnyRow, plan: Plan, found: list[Group]) -> Iterator[Reason]:
    if run.cancel_requested_at is not None or run.stop_as is not None:
        since = f" since {_told(run.cancel_requested_at)}" if run.cancel_requested_at else ""
        yield Reason(message=f"it is being stopped{since}: what still runs is told to end")
    if run.paused_at is not None:
        yield Reason(message=f"it is paused since {_told(run.paused_at)}: resume it, and it goes on")
    if run.examine_at is not None:
        yield Reason(message="it waits until moderation has examined what it was given")
    elif any(group.hold == Hold.ADMISSION for group in found):
        behind = [] if run.run_key is None else list(_behind_its_key(session, owner_id, run, plan))
        yield from behind
        active, most = explaining.active(session, owner_id), settings().max_active_runs
        before = explaining.earlier(session, owner_id, run.id, run.priority)
        if active >= most:
            yield Reason(
                message=f"it waits to be admitted: its owner has {active} active runs, and {most} may be "
                f"(AGENTFLOW_MAX_ACTIVE_RUNS); {before} of theirs wait before it"
            )
        elif not behind:
            yield Reason(message=f"there is a place for it, which it gets in a moment; {before} runs wait before it")
    if run.parent_run_id is not None:
        parent = run_views.find(session, owner_id, run.parent_run_id)
        node = plan_of(session, run.parent_graph_id, run.parent_graph_version).nodes[run.parent_node]
        state = "" if parent is None else f", which is {'paused' if parent.paused_at else parent.status}"
        yield Reason(
            message=f"it is the child run of {node.title} #{run.parent_idx} in run {run.parent_run_id}{state}",
            run_ids=[run.parent_run_id],
        )
    if run.status == RunStatus.WAITING:
        yield Reason(message="nothing of it can go on before something comes from the outside")


def _behind_its_key(session: Session, owner_id: UUID, run: AnyRow, plan: Plan) -> Iterator[Reason]:
    most = explaining.limit_of_key(session, owner_id, run.run_key) or run.run_key_limit
    if explaining.open_of_key(session, owner_id, run.run_key) >= most:
        others = explaining.of_key(session, owner_id, run.run_key, MOST_HOLDERS + 1)
        said = plan.settings.runs
        alike = f" with its value of {said.key!r}" if said is not None and said.key is not None else ""
        named = [*map(str, others[:MOST_HOLDERS]), *(["others"] if len(others) > MOST_HOLDERS else [])]
        yield Reason(
            message=f"its graph's setting `runs` lets {most}{alike} be open at once: {', '.join(named)}",
            run_ids=list(others[:MOST_HOLDERS]),
        )


def _of_a_node(session: Session, run_id: UUID, plan: Plan, group: Group, served: Collection[str]) -> Iterator[Reason]:
    node = plan.nodes[group.node]
    name = f"{node.title} #{group.idx}" + (f" and {group.count - 1} more of this node" if group.count > 1 else "")
    message, run_ids = _stands(session, run_id, plan, group, served)
    yield Reason(message=f"{name} {message}", node_id=node.id, index=group.idx, until=group.due_at, run_ids=run_ids)


def _stands(
    session: Session, run_id: UUID, plan: Plan, group: Group, served: Collection[str]
) -> tuple[str, list[UUID]]:
    """The state of a group's node executions, as the rest of a sentence, and the runs concerned.

    `served`: the lanes that some worker serves.
    """
    since = f" since {_told(group.since)}" if group.since else ""
    if group.status == NodeStatus.RUNNING:
        return f"runs{since} on {group.holder}", []
    if group.status == NodeStatus.WAITING:
        return _waits(session, run_id, group)
    if group.hold == Hold.LIMIT:
        return _behind_a_limit(session, run_id, plan, group)
    held = {
        Hold.RATE: "has a place in its rate limit" + (f": {_told(group.due_at)}" if group.due_at else ""),
        Hold.WINDOW: f"is held back: {settings().ready_window} of its run are ready (AGENTFLOW_READY_WINDOW), "
        "and each that ends lets one out",
        Hold.PAUSED: "waits until the run is resumed",
        Hold.ADMISSION: "waits until the run is admitted",
    }
    if group.hold is not None:
        return held.get(Hold(group.hold), f"is held: {group.hold}"), []
    if group.due_at is not None and group.due_at > clock.now():
        return f"is tried again: {_told(group.due_at)}", []
    lane = plan.nodes[group.node].lane
    if lane not in served:
        return (
            f"is ready{since} in the queue {lane!r}, which no worker serves: start one (`agentflow worker -Q {lane}`). "
            f"Without one it ends FAILED after {settings().unserved_seconds:g} s (AGENTFLOW_UNSERVED_SECONDS)"
        ), []
    return f"is ready{since} in the queue {lane!r}: the workers that serve it are busy, or about to take it", []


def _waits(session: Session, run_id: UUID, group: Group) -> tuple[str, list[UUID]]:
    key = Key(group.node, group.idx)
    wait = node_views.waits(session, run_id, [key]).get(key)
    if wait is None:
        return "waits", []
    until = f" until {_told(wait.until)}" if wait.until else ""
    children = node_views.child_runs(session, run_id, [key]).get(key, [])
    for_what = {
        "timer": "for its time",
        "event": f"for the event {wait.key!r} (`agentflow runs signal {run_id} {shlex.quote(wait.key)}`)",
        "review": f"for a person to decide review {wait.key} (`agentflow reviews approve {wait.key}`)",
        "child": f"for its child run {', '.join(map(str, children))}".rstrip(),
    }
    return f"waits since {_told(wait.since)} {for_what.get(wait.kind, f'for {wait.kind}')}{until}", children


def _behind_a_limit(session: Session, run_id: UUID, plan: Plan, group: Group) -> tuple[str, list[UUID]]:
    """What a limit waits for. A limit belongs to its owner, as do all runs that hold it."""
    limit = plan.nodes[group.node].settings.concurrency
    holders = explaining.places(session, run_id, group.node, MOST_HOLDERS + 1)
    run_ids = list(dict.fromkeys(place.run_id for place in holders[:MOST_HOLDERS]))
    named = []
    for place in holders[:MOST_HOLDERS]:
        other = run_views.find_any(session, place.run_id)
        title = "?" if other is None else plan_of(session, other.graph_id, other.graph_version).nodes[place.node].title
        named.append(f"{title} #{place.idx} of run {place.run_id} since {_told(place.since)}")
    more = ["others"] if len(holders) > MOST_HOLDERS else []
    before = explaining.ahead(session, run_id, group.node)
    allowed = f" ({limit.limit} at once)" if limit is not None else ""
    alone = explaining.waits_for_credential(session, run_id, group.node)
    what = "its turn with a credential" if alone else f"a place under its limit{allowed}"
    told = f"waits for {what}, with {before} before it; held by "
    return told + ("; ".join(named + more) or "nobody any more"), run_ids


def _told(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
