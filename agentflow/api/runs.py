"""Serves `/api/v1/runs`: submit graphs; inspect, steer and cancel runs."""

from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

from flask import Response, request, url_for
from pydantic import BaseModel

from agentflow.api import audit
from agentflow.api.blueprint import blueprint, owner_id
from agentflow.api.graphs import GraphPath
from agentflow.api.replies import reply
from agentflow.api.requests import optional_body
from agentflow.api.waiting import ended_within, preferred_seconds
from agentflow.errors import Malformed
from agentflow.schemas.problems import places
from agentflow.schemas.runs import (
    MAX_FULL_PAGE,
    MAX_WAIT,
    BulkCancel,
    BulkCancelled,
    CancelAccepted,
    CancelRun,
    ForkRun,
    NamedCredential,
    NodeExecutionList,
    NodeListQuery,
    OutputList,
    OutputListQuery,
    RunAccepted,
    RunExplanation,
    RunList,
    RunListQuery,
    RunPreset,
    RunSummary,
    RunView,
    SubmitInline,
    SubmitRun,
    WaitQuery,
)
from agentflow.services import cancellation, explanations, node_executions, steering, submissions, values
from agentflow.services import run_views as runs
from agentflow.services.cursors import PageRequest
from agentflow.services.node_executions import NodeFilter
from agentflow.services.run_views import RunFilter
from agentflow.services.submissions import Accepted, Stored, Wanted
from agentflow.services.transaction import carry_out, transaction

IDEMPOTENCY_KEY = "Idempotency-Key"
REPLAYED = "Idempotent-Replay"

api = blueprint("runs", "Runs of graphs: submit, look, cancel.")


class RunPath(BaseModel):
    """Which run."""

    run_id: UUID


@api.post("/graphs/<uuid:graph_id>/runs", responses={200: RunView, 202: RunAccepted})
def submit_run(path: GraphPath, query: WaitQuery, body: SubmitRun) -> Response:
    """Run a stored graph.

    With an `Idempotency-Key` header, sending the same again gives the same run; another body with it is a 422.
    """
    with transaction() as session:
        accepted = submissions.submit(
            session, owner_id(), Stored(path.graph_id, body.version), wanted_of(body), idempotency_key()
        )
        audit.made(accepted.run_id)
    return accepted_reply(accepted, query.wait)


@api.post("/runs", responses={200: RunView, 202: RunAccepted})
def submit_inline(query: WaitQuery, body: SubmitInline) -> Response:
    """Run a graph that comes with the request.

    With an `Idempotency-Key` header, sending the same again gives the same run; another body with it is a 422.
    """
    with transaction() as session:
        accepted = submissions.submit(session, owner_id(), body.graph, wanted_of(body), idempotency_key())
        audit.made(accepted.run_id)
    return accepted_reply(accepted, query.wait)


@api.get("/runs", responses={200: RunList})
def list_runs(query: RunListQuery) -> Response:
    """List runs, the newest first."""
    wanted = RunFilter(
        status=query.status,
        graph_id=query.graph_id,
        parent=query.parent,
        roots=query.roots,
        labels=dict(map(_label, query.label)),
        created_after=query.created_after,
        created_before=query.created_before,
    )
    with transaction() as session:
        return reply(runs.page(session, owner_id(), wanted, PageRequest(query.after, query.limit)))


@api.get("/runs/<uuid:run_id>", responses={200: RunView})
def get_run(path: RunPath) -> Response:
    """A run: its status, inputs, outputs and counts."""
    with transaction() as session:
        return reply(runs.get(session, owner_id(), path.run_id))


@api.get("/runs/<uuid:run_id>/explanation", responses={200: RunExplanation})
def explain_run(path: RunPath) -> Response:
    """Why a run does not go on: what it waits for, who holds the limits in its way, whether it is admitted."""
    with transaction() as session:
        return reply(explanations.explain(session, owner_id(), path.run_id))


@api.get("/runs/<uuid:run_id>/nodes", responses={200: NodeExecutionList})
def list_nodes(path: RunPath, query: NodeListQuery) -> Response:
    """List a run's node executions, with what they got and gave, by node and index."""
    full = query.values == "full"
    wanted = NodeFilter(node_id=query.node, index=query.index, status=query.status)
    with transaction() as session:
        found = node_executions.page(
            session,
            owner_id(),
            path.run_id,
            wanted,
            PageRequest(query.after, min(query.limit, MAX_FULL_PAGE) if full else query.limit),
            values.FULL if full else values.SHORT,
        )
    return reply(found)


@api.get("/runs/<uuid:run_id>/outputs", responses={200: OutputList})
def list_outputs(path: RunPath, query: OutputListQuery) -> Response:
    """List what a run's output nodes gave, of each node in order."""
    with transaction() as session:
        asked = PageRequest(query.after, query.limit)
        return reply(runs.outputs(session, owner_id(), path.run_id, query.name, asked))


@api.post("/runs/<uuid:run_id>/cancel", responses={202: CancelAccepted})
def cancel_run(path: RunPath) -> Response:
    """Cancel a run. It reads RUNNING with `cancel_requested_at` until all is closed. The body may be left out."""
    body = optional_body(CancelRun)
    with transaction(cancellation.STATEMENT_SECONDS) as session:
        return reply(cancellation.cancel(session, owner_id(), path.run_id, body.reason), 202)


@api.post("/runs/cancel", responses={202: BulkCancelled})
def cancel_runs(body: BulkCancel) -> Response:
    """Cancel all open runs that fit, up to 1,000 at once. An empty filter needs `all`."""
    wanted = RunFilter(
        status=body.status,
        graph_id=body.graph_id,
        labels=body.labels,
        created_after=body.created_after,
        created_before=body.created_before,
    )
    if wanted == RunFilter(labels={}) and not body.all:
        raise Malformed("no filter is given: to cancel every open run, say `all`")
    return reply(carry_out(cancellation.cancel_all(owner_id(), wanted, body.reason)), 202)


@api.post("/runs/<uuid:run_id>/pause", responses={200: RunSummary})
def pause_run(path: RunPath) -> Response:
    """Pause a run: nothing new starts, what runs finishes."""
    return reply(carry_out(steering.pause(owner_id(), path.run_id)))


@api.post("/runs/<uuid:run_id>/resume", responses={200: RunSummary})
def resume_run(path: RunPath) -> Response:
    """Let a paused run go on."""
    return reply(carry_out(steering.resume(owner_id(), path.run_id)))


@api.post("/runs/<uuid:run_id>/retry", responses={202: RunSummary})
def retry_run(path: RunPath) -> Response:
    """Run again what failed with nobody to handle it, and what was cancelled; what completed stays."""
    return reply(carry_out(steering.retry(owner_id(), path.run_id)), 202)


@api.post("/runs/<uuid:run_id>/fork", responses={202: RunSummary})
def fork_run(path: RunPath, body: ForkRun) -> Response:
    """A new run that takes over all that lies upstream of a node, and begins there."""
    with transaction(steering.STATEMENT_SECONDS) as session:
        forked = steering.fork(session, owner_id(), path.run_id, body.from_node, body.inputs)
    response = reply(forked, 202)
    response.headers["Location"] = url_for("runs.get_run", run_id=forked.id)
    return response


def wanted_of(body: SubmitRun | SubmitInline | RunPreset) -> Wanted:
    """What a request to run something asks for."""
    return Wanted(
        inputs=body.inputs,
        masks=body.nodes_input_masks,
        labels=body.labels,
        priority=body.priority,
        allow_missing_inputs=body.allow_missing_inputs,
        credentials=named(body.credentials),
    )


def named(credentials: Mapping[str, UUID | NamedCredential]) -> dict[str, dict[str, str]]:
    """Credentials as the values of pins name them."""
    return {
        key: {"id": str(chosen)} if isinstance(chosen, UUID) else chosen.model_dump(mode="json", exclude_none=True)
        for key, chosen in credentials.items()
    }


def idempotency_key() -> str | None:
    """This request's Idempotency-Key."""
    return request.headers.get(IDEMPOTENCY_KEY)


def _label(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise Malformed(f"a label is looked for as name=value, not {text!r}")
    return name, value


def accepted_reply(accepted: Accepted, wait: float | None) -> Response:
    """Where the run is that was submitted, and what is doubtful about it; or the run, if it ends in `wait` seconds."""
    preferred = preferred_seconds(MAX_WAIT)
    seconds = preferred if wait is None else wait
    if seconds and ended_within(owner_id(), accepted.run_id, seconds):
        with transaction(looks=True) as session:
            response = reply(runs.get(session, owner_id(), accepted.run_id))
    else:
        if seconds:  # it has gone on meanwhile
            with transaction(looks=True) as session:
                accepted = replace(accepted, status=runs.find(session, owner_id(), accepted.run_id).status)
        response = reply(_accepted(accepted), 202)
    response.headers["Location"] = url_for("runs.get_run", run_id=accepted.run_id)
    if accepted.replayed:
        response.headers[REPLAYED] = "true"
    if preferred is not None and wait is None:
        response.headers["Preference-Applied"] = f"wait={preferred:g}"
    return response


def _accepted(accepted: Accepted) -> RunAccepted:
    return RunAccepted(
        id=accepted.run_id,
        graph_id=accepted.graph_id,
        graph_version=accepted.graph_version,
        status=accepted.status,
        warnings=places(accepted.warnings),
    )
