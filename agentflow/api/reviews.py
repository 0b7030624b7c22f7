"""Serves `/api/v1/reviews`, and accepts external events for runs."""

from uuid import UUID

from flask import Response
from pydantic import BaseModel

from agentflow.api.blueprint import blueprint, owner_id
from agentflow.api.replies import reply
from agentflow.api.requests import optional_body
from agentflow.graph.names import EventName
from agentflow.schemas.reviews import (
    Approval,
    Decision,
    ReviewList,
    ReviewListQuery,
    ReviewView,
    Signal,
    SignalAccepted,
)
from agentflow.services import reviews
from agentflow.services.cursors import PageRequest
from agentflow.services.transaction import transaction

STATEMENT_SECONDS = 60.0
"""The statement timeout for approving all reviews of a node, of which there may be many."""

api = blueprint("reviews", "What people are to look at, and events from outside.")


class ReviewPath(BaseModel):
    """Which review."""

    review_id: UUID


class SignalPath(BaseModel):
    """Which event of which run."""

    run_id: UUID
    name: EventName


@api.get("/reviews", responses={200: ReviewList})
def list_reviews(query: ReviewListQuery) -> Response:
    """List reviews, the newest first; by default those that wait for somebody."""
    status = None if query.status == "all" else query.status
    with transaction() as session:
        return reply(reviews.page(session, owner_id(), status, query.run_id, PageRequest(query.after, query.limit)))


@api.get("/reviews/<uuid:review_id>", responses={200: ReviewView})
def get_review(path: ReviewPath) -> Response:
    """One review."""
    with transaction() as session:
        return reply(reviews.get(session, owner_id(), path.review_id))


@api.post("/reviews/<uuid:review_id>/approve", responses={200: ReviewView})
def approve_review(path: ReviewPath) -> Response:
    """Approve, as it is or edited; with `rest`, whatever else this node asks in this run too. A body is optional."""
    body = optional_body(Approval)
    edited = (body.data,) if "data" in body.model_fields_set else None
    with transaction(STATEMENT_SECONDS) as session:
        return reply(reviews.approve(session, owner_id(), path.review_id, body.message, edited, body.rest))


@api.post("/reviews/<uuid:review_id>/reject", responses={200: ReviewView})
def reject_review(path: ReviewPath) -> Response:
    """Reject. A body is optional."""
    body = optional_body(Decision)
    with transaction(STATEMENT_SECONDS) as session:
        return reply(reviews.reject(session, owner_id(), path.review_id, body.message))


@api.post("/runs/<uuid:run_id>/signals/<path:name>", responses={202: SignalAccepted})
def send_signal(path: SignalPath) -> Response:
    """Send an external event to a run. One that nothing waits for yet is kept. A body is optional.

    A `/` in the name may be written as it is, or as `%2F`.
    """
    body = optional_body(Signal)
    with transaction() as session:
        return reply(reviews.signal(session, owner_id(), path.run_id, path.name, body.payload), 202)
