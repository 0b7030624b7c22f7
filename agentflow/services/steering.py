"""Pauses, resumes, retries and forks runs.

Child runs follow their parents, each in a transaction of its own (`cancellation` says why).
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from agentflow.blocks.registry import catalogue
from agentflow.dispatch import PublishedRun, publish, publish_examination, publish_finaliser, wake
from agentflow.engine.codec import loads
from agentflow.engine.statuses import RUN_RETRIABLE, RUN_TERMINAL
from agentflow.engine.verdict import failure_is_unhandled
from agentflow.errors import AlreadyEnded, Conflict, GraphInvalid, NotFound, Problem
from agentflow.graph.masked_names import unknown_names
from agentflow.graph.plan import Plan
from agentflow.graph.scoped_masks import scoped
from agentflow.ids import new_id
from agentflow.schemas.runs import RunSummary
from agentflow.services import admission, documents, estimates, runs
from agentflow.services import run_views as views
from agentflow.services.given import refuse_unstorable
from agentflow.services.plans import document_of, plan_of, plan_of_run
from agentflow.services.runs import Fork
from agentflow.services.transaction import Look, Step, Steps, after_commit
from agentflow.storage import runs as stored_runs
from agentflow.storage import steering
from agentflow.storage.runs import NewRun, Parent
from agentflow.storage.steering import Resumption
from agentflow.storage.views import children
from agentflow.storage.views import runs as run_views
from agentflow.storage.views.runs import AnyRow

_ANEW: Final = "that is withheld, so the run cannot be repeated; submit another"

STATEMENT_SECONDS = 120.0
"""For a transaction that looks at all node executions of a run."""


def pause(owner_id: UUID, run_id: UUID) -> Steps[RunSummary]:
    """Start nothing new of the run and its child runs; what runs finishes. Pausing again does nothing.

    Raises:
        NotFound: the owner has no such run.
        AlreadyEnded: it has ended, or is being stopped.
    """
    return (yield from _whole_tree(_pause, owner_id, run_id, paused=True))


def resume(owner_id: UUID, run_id: UUID) -> Steps[RunSummary]:
    """Resume a paused run and its child runs. Resuming one that is not paused does nothing.

    Raises:
        NotFound: the owner has no such run.
        AlreadyEnded: it has ended, or is being stopped.
    """
    return (yield from _whole_tree(_resume, owner_id, run_id, paused=False))


def pass_down(owner_id: UUID, run_id: UUID) -> Steps[None]:
    """Pause or resume the child runs of a run as it is now, for a process that did not live to do it."""
    run = yield Step(views.find, owner_id, run_id)
    yield from _pass_down(owner_id, run_id, paused=run.paused_at is not None)


def retry(owner_id: UUID, run_id: UUID) -> Steps[RunSummary]:
    """Run again what failed unhandled and what was cancelled, with the same inputs.

    Raises:
        NotFound: the owner has no such run.
        Conflict: it has not ended, has completed, or is a child run.
        PaymentRequired: it can cost something, and the owner has no credits.
    """
    run = yield Look(views.find, owner_id, run_id)
    if run.parent_run_id is not None:
        raise Conflict(f"run {run_id} is a child run: retry the run that it belongs to, {run.root_id}")
    if run.status not in RUN_TERMINAL:  # before its children run again for nothing
        raise _not_retried(run_id, "open")
    if run.status in RUN_RETRIABLE:
        yield Look(_refuse_unpayable, owner_id, run)
    if (yield Look(children.any_refused, run_id)):
        raise Conflict(f"moderation refused what run {run_id} was given, or gave: {_ANEW}")
    yield from _retry_tree(run)
    yield from admission.admit(owner_id)
    summary: RunSummary = yield Step(_summary, owner_id, run_id)
    return summary


def _refuse_unpayable(session: Session, owner_id: UUID, run: AnyRow) -> None:
    masks = loads(run.masks) if run.masks else {}
    estimates.refuse_unpayable(session, owner_id, plan_of(session, run.graph_id, run.graph_version), masks)


def retry_child(parent: Parent) -> Steps[bool]:
    """Retry a child run that ended FAILED or CANCELLED, because the node execution that waits for it is retried.

    Returns:
        whether it was retried.
    """
    run = yield Look(_child_of, parent)
    if run is None:
        return False
    try:
        yield from _retry_tree(run)
    except Conflict:
        return False
    return True


def _child_of(session: Session, parent: Parent) -> AnyRow | None:
    child = children.find(session, parent)
    return run_views.find_any(session, child.id) if child is not None else None


def fork(session: Session, owner_id: UUID, run_id: UUID, from_node: str, inputs: Mapping[str, Any]) -> RunSummary:
    """Start a run that takes over all that an ended one did, except `from_node` and what is downstream of it.

    Args:
        session: the transaction, whose statements get `STATEMENT_SECONDS`.
        owner_id: whose run it is.
        run_id: the run.
        from_node: the id of the node at which the new run begins.
        inputs: pin → value: what that node gets instead.

    Raises:
        NotFound: the owner has no such run.
        Conflict: it has not ended, or the node is part of a cycle.
        GraphInvalid: the graph has no such node, the node no such pin, or it cannot run with these inputs.
        TooLarge: an input is larger than a value may be.
        PaymentRequired: it can cost something, and the owner has no credits.
    """
    refuse_unstorable({}, {from_node: inputs or {}})
    views.find(session, owner_id, run_id)
    steering.hold_as_it_is(session, run_id)  # a retry meanwhile would change what is taken over
    run = views.find(session, owner_id, run_id)
    if run.status not in RUN_TERMINAL:
        raise Conflict(f"run {run_id} has not ended; cancel it, or wait for it")
    if children.any_refused(session, run_id):
        raise Conflict(f"moderation refused what run {run_id} was given, or gave: {_ANEW}")
    plan = plan_of(session, run.graph_id, run.graph_version)
    anew = _anew(plan, from_node)
    masks: dict[str, dict[str, Any]] = loads(run.masks) if run.masks else {}
    if inputs:
        alone = scoped(plan.graph_id, from_node)  # goes before
        for name in (from_node, alone) if alone in masks else (from_node,):
            masks = {**masks, name: {**masks.get(name, {}), **inputs}}
    given = {name: loads(text) for name, text in run_views.inputs(session, run_id).items()}
    graph = document_of(session, run.graph_id, run.graph_version)
    problems = [
        replace(problem, severity="error") if problem.node == from_node and problem.pin in inputs else problem
        for problem in documents.problems_of_run(graph, given, masks)
    ]  # the reply has no place for a warning
    problems += unknown_names([graph], catalogue, {from_node: inputs})
    if any(problem.severity == "error" for problem in problems):
        raise GraphInvalid("the graph cannot run with these inputs", problems)
    estimates.refuse_unpayable(session, owner_id, plan, masks)
    new = NewRun(new_id(), owner_id, plan, given, masks, run.labels, run.priority)
    runs.start(session, new, Fork(run_id, anew))
    return _summary(session, owner_id, new.id)


def _anew(plan: Plan, from_node: str) -> set[int]:
    try:
        node = plan.node(from_node)
    except KeyError:
        place = Problem(f"the graph has no node '{from_node}'", from_node)
        raise GraphInvalid("there is no such node to fork at", [place]) from None
    if any(node.number in plan.downstream(link.sink) for link in node.links):
        raise Conflict(f"node '{from_node}' is part of a cycle: there is no point before it from which to go on")
    return plan.downstream(node.number)


def _pause(session: Session, owner_id: UUID, run_id: UUID, as_parent: bool = False) -> None:
    views.find(session, owner_id, run_id)
    if steering.pause(session, run_id, as_parent=as_parent) == "ended":
        raise AlreadyEnded(f"run {run_id} has ended, or is being stopped")
    after_commit(session, lambda: wake(run_id))


def _resume(session: Session, owner_id: UUID, run_id: UUID, as_parent: bool = False) -> None:
    run = views.find(session, owner_id, run_id)
    outcome = steering.resume(session, run_id, as_parent=as_parent)
    if outcome.verdict == "ended":
        raise AlreadyEnded(f"run {run_id} has ended, or is being stopped")
    _publish_after(session, run, outcome)


def _retry_tree(run: AnyRow) -> Steps[None]:
    """Retry a run and its child runs, the deepest first: a parent looks at its child when it runs again.

    Raises:
        Conflict: the run itself has not ended, or has completed.
    """
    with steering.tree_held(run.root_id):
        for tree_run in reversed((yield Look(_to_retry, run))):
            yield Step(_retry, *tree_run, run.id, statement_seconds=STATEMENT_SECONDS)


def _retry(session: Session, run_id: UUID, unhandled: list[int], deadline: float | None, asked: UUID) -> None:
    outcome = steering.retry(session, run_id, unhandled, deadline)
    if outcome.verdict == "retried":
        run = run_views.find_any(session, run_id)
        assert run is not None
        _publish_after(session, run, outcome)
        if run.examine_at is not None:  # it was cancelled before moderation had passed it
            after_commit(session, lambda: publish_examination(run_id))
    elif run_id == asked:
        raise _not_retried(run_id, outcome.verdict)


def _publish_after(session: Session, run: AnyRow, outcome: Resumption) -> None:
    plan = plan_of_run(session, run)
    after_commit(session, lambda: publish(PublishedRun(run.id, plan, run.priority), outcome.ready))
    after_commit(session, lambda: publish_finaliser(run.id))  # there may be nothing to publish


def _not_retried(run_id: UUID, verdict: str) -> Conflict:
    why = "it has completed" if verdict == "completed" else "it has not ended"
    return Conflict(f"run {run_id} cannot be retried: {why}")


def _to_retry(session: Session, root: AnyRow) -> list[tuple[UUID, list[int], float | None]]:
    """The runs of a tree that a retry runs again, parents first.

    Returns:
        for each its id, its nodes whose failures none handles, and its deadline: the least of its graph's and its
        parents', in seconds; None: none of them has one.
    """
    tree: list[tuple[UUID, list[int], float | None]] = []
    waiting: list[tuple[AnyRow, float | None]] = [(root, None)]
    while waiting:
        run, deadline = waiting.pop(0)
        plan = plan_of_run(session, run)
        unhandled = [node.number for node in plan.nodes if failure_is_unhandled(plan, node.number)]
        deadline = min((each for each in (deadline, plan.settings.deadline) if each is not None), default=None)
        tree.append((run.id, unhandled, deadline))
        for child in steering.children_to_retry(session, run.id, unhandled):
            found = run_views.find_any(session, child)
            if found is not None and found.status in RUN_RETRIABLE:
                waiting.append((found, deadline))
    return tree


def _whole_tree(act: Callable[..., None], owner_id: UUID, run_id: UUID, *, paused: bool) -> Steps[RunSummary]:
    """Do `act` to a run, after which it is `paused` or not, and the same to its open child runs."""
    yield Step(act, owner_id, run_id, statement_seconds=STATEMENT_SECONDS)
    yield from _pass_down(owner_id, run_id, paused=paused)
    summary: RunSummary = yield Step(_summary, owner_id, run_id)
    return summary


def _pass_down(owner_id: UUID, run_id: UUID, *, paused: bool) -> Steps[None]:
    """Pause or resume the open child runs of a run as it was, and note that it is done."""
    yield from _reach_children(_pause if paused else _resume, owner_id, run_id)
    yield Step(steering.passed_down, run_id, paused)


def _reach_children(act: Callable[..., None], owner_id: UUID, run_id: UUID) -> Steps[None]:
    """Do to the open child runs of a run what was done to it, level by level.

    A new child takes over its parent's state. So a run's children are looked up only when the run itself is done.
    """
    for child in (yield Step(stored_runs.open_children, run_id)):
        with suppress(AlreadyEnded, NotFound):
            yield Step(act, owner_id, child, True, statement_seconds=STATEMENT_SECONDS)
            yield from _reach_children(act, owner_id, child)


def _summary(session: Session, owner_id: UUID, run_id: UUID) -> RunSummary:
    return views.summary(session, views.find(session, owner_id, run_id))
