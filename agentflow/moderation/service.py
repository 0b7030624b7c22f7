"""Examines what a run is given, before any of it starts.

Until then the run is held like one that waits for a place. If the process that examines it dies, a chore has it
examined again. What is refused is withheld: nobody sees it any more, and the run cannot be repeated.
"""

import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from agentflow.dispatch import publish_finaliser
from agentflow.engine.codec import loads
from agentflow.engine.statuses import FailureReason, RunStatus
from agentflow.errors import AlreadyEnded, NotFound
from agentflow.graph.model import Graph
from agentflow.moderation import store
from agentflow.moderation.checking import Verdict, check
from agentflow.moderation.store import Refused
from agentflow.services import admission, sub_graphs
from agentflow.services.cancellation import STATEMENT_SECONDS
from agentflow.services.plans import document_of, plan_of
from agentflow.services.secrecy import hide_inputs, hide_run_inputs
from agentflow.services.transaction import Step, Steps
from agentflow.settings import settings
from agentflow.storage import runs
from agentflow.storage.runs import StopOutcome
from agentflow.storage.views import runs as run_views

logger = logging.getLogger(__name__)


class _Given(NamedTuple):
    """What a run is given: its inputs, its masks, and the literals of its graph and of those that this runs."""

    owner_id: UUID
    graph_id: UUID
    values: list[Any]


def examine(run_id: UUID) -> Steps[None]:
    """Examine a run, unless that was done: it is admitted as soon as there is a place, or ends FAILED."""
    given = yield Step(_given, run_id)
    if given is None:
        return
    of = {"run_id": str(run_id), "owner_id": str(given.owner_id), "graph_id": str(given.graph_id)}
    verdict = check("inputs", given.values, of)
    if verdict.allowed:
        if (yield Step(_pass, run_id)):
            yield from admission.admit(given.owner_id)
        return
    logger.warning("run_refused", extra={**of, "categories": list(verdict.categories), "reason": verdict.reason})
    with suppress(AlreadyEnded, NotFound):
        stopped = yield Step(_refuse, run_id, given, verdict, statement_seconds=STATEMENT_SECONDS)
        if stopped.running == 0:
            publish_finaliser(run_id)


def _given(session: Session, run_id: UUID) -> _Given | None:
    """What a run is given that waits to be examined."""
    run = run_views.find_any(session, run_id)
    if run is None or run.examine_at is None or run.ended_at is not None or run.stop_as is not None:
        return None
    graph = sub_graphs.complete(session, run.owner_id, document_of(session, run.graph_id, run.graph_version))
    inputs = {name: loads(value) for name, value in run_views.inputs(session, run_id).items()}
    masks = loads(run.masks) if run.masks else {}
    return _Given(run.owner_id, run.graph_id, [inputs, masks, *_literals(graph)])


def _literals(graph: Graph) -> Iterator[Any]:
    for one in (graph, *graph.sub_graphs):
        for node in one.nodes:
            yield node.input_default


def _shown(session: Session, run_id: UUID) -> dict[str, Any]:
    """What a run is given, without secrets: its inputs, and what its nodes get from masks and literals."""
    run = run_views.find_any(session, run_id)
    assert run is not None
    plan = plan_of(session, run.graph_id, run.graph_version)
    inputs = {name: loads(value) for name, value in run_views.inputs(session, run_id).items()}
    masks = loads(run.masks) if run.masks else {}
    nodes = {node.id: hide_inputs(node, {**node.input_default, **masks.get(node.id, {})}) for node in plan.nodes}
    return {"inputs": hide_run_inputs(plan, inputs), "nodes": nodes}


def _pass(session: Session, run_id: UUID) -> bool:
    return session.scalar(text("SELECT agentflow_pass_run(:run)"), {"run": run_id}) is not None


def _refuse(session: Session, run_id: UUID, given: _Given, verdict: Verdict) -> StopOutcome:
    stopped = runs.stop(session, run_id, RunStatus.FAILED, FailureReason.MODERATION)
    if stopped.verdict == "stopped":  # else it ends as something that can be retried: it is examined again then
        if settings().moderation_keep:
            store.keep(session, Refused(given.owner_id, run_id, "", verdict, _shown(session, run_id)))
        session.execute(text("SELECT agentflow_withhold(:run)"), {"run": run_id})
    return stopped
