"""Gives every error its public form, by one table: an HTTP status, and a slug that never changes.

A problem's `type` is `urn:agentflow:problem:` plus that slug.
"""

from typing import NamedTuple

from agentflow import errors
from agentflow.errors import AgentFlowError, ClientError, Malformed


class Kind(NamedTuple):
    """The public form of a class of errors."""

    status: int
    slug: str
    title: str


TABLE: dict[type[AgentFlowError], Kind] = {
    AgentFlowError: Kind(500, "internal", "Something went wrong"),
    ClientError: Kind(400, "bad-request", "The request cannot be carried out"),
    Malformed: Kind(400, "malformed", "The request is malformed"),
    errors.Unauthenticated: Kind(401, "unauthenticated", "Nobody is identified"),
    errors.Forbidden: Kind(403, "forbidden", "This is not allowed"),
    errors.PaymentRequired: Kind(402, "payment-required", "There are no credits for this"),
    errors.NotFound: Kind(404, "not-found", "Not found"),
    errors.Conflict: Kind(409, "conflict", "The state of the thing does not allow this"),
    errors.AlreadyEnded: Kind(409, "already-ended", "The run has ended"),
    errors.AtLimit: Kind(409, "at-limit", "As many runs are open as may be"),
    errors.IdempotencyMismatch: Kind(422, "idempotency-mismatch", "The Idempotency-Key stands for another request"),
    errors.TooLarge: Kind(413, "too-large", "Too large"),
    errors.Unsupported: Kind(415, "unsupported-media-type", "The body is of a type that is not taken here"),
    errors.TooMany: Kind(429, "too-many", "Too many, or too fast"),
    errors.GraphInvalid: Kind(422, "graph-invalid", "The graph or its inputs are not valid"),
    errors.NodeFailure: Kind(500, "node-failed", "A block failed"),
    errors.BadInput: Kind(422, "bad-input", "A block cannot work with its inputs"),
    errors.NoSuchHost: Kind(422, "no-such-host", "There is no host of that name"),
    errors.Ambiguous: Kind(422, "ambiguous", "Several credentials fit"),
    errors.BlockBug: Kind(500, "block-bug", "A block broke its contract"),
    errors.Transient: Kind(503, "transient", "Something outside failed; try again"),
    errors.TimedOut: Kind(504, "timed-out", "A block took too long"),
    errors.NotAllowed: Kind(422, "not-allowed", "Moderation refuses this"),
    errors.Unpaid: Kind(402, "unpaid", "The credits do not suffice for a block"),
    errors.SystemFault: Kind(500, "system-fault", "A worker failed"),
    errors.EngineError: Kind(500, "engine", "AgentFlow is not in order"),
    errors.IllegalTransition: Kind(500, "illegal-transition", "AgentFlow is not in order"),
    errors.WrongSchema: Kind(503, "wrong-schema", "The database has another version's schema"),
    errors.Refused: Kind(503, "refused", "The database does not let AgentFlow in"),
    errors.AlreadyRunning: Kind(500, "already-running", "AgentFlow is running there already"),
    errors.Unavailable: Kind(503, "unavailable", "A part of AgentFlow cannot be reached"),
    errors.Busy: Kind(503, "busy", "All places are taken"),
}


def kind_of(error: type[AgentFlowError]) -> Kind:
    """The kind of an error, by the nearest class in the table."""
    return next(TABLE[cls] for cls in error.__mro__ if cls in TABLE)
