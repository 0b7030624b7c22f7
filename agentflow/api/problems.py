"""Turns every error into an RFC 9457 problem document, by one table.

`TABLE` gives each class of `errors.py` its HTTP status and slug; the problem's `type` is `urn:agentflow:problem:` plus
that slug, and never changes. Server errors are logged under the request's id, and the client learns only the id,
because their messages may name hosts and files.
"""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple

from flask import Flask, Response, current_app, g, has_app_context
from flask.typing import ResponseReturnValue
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from agentflow import errors
from agentflow.api.replies import json_text
from agentflow.api.requests import malformed
from agentflow.errors import AgentFlowError, ClientError, Malformed, Problem
from agentflow.logs import log_outage
from agentflow.schemas.problems import MEDIA_TYPE, TYPE_PREFIX, ProblemDocument, places

logger = logging.getLogger(__name__)

RETRY_AFTER = 1
"""Seconds after which a client may retry what was refused temporarily."""


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


_BY_STATUS: dict[int, type[AgentFlowError]] = {
    400: Malformed,
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    413: errors.TooLarge,
    415: errors.Unsupported,
    500: AgentFlowError,
    503: errors.Busy,
}


def problem(kind: Kind, detail: str, problems: Sequence[Problem] = (), *, after: int | None = None) -> Response:
    """The problem document as a response; `after`: seconds for Retry-After, where that has one."""
    document = ProblemDocument(
        type=TYPE_PREFIX + kind.slug,
        title=kind.title,
        status=kind.status,
        detail=detail,
        errors=places(problems),
        instance=f"urn:uuid:{g.request_id}" if has_app_context() and "request_id" in g else None,
    )
    response = Response(json_text(document), status=kind.status, mimetype=MEDIA_TYPE)
    if kind.status in (429, 503):
        response.headers["Retry-After"] = str(after or RETRY_AFTER)
    if kind.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def refusal(status: int, detail: str) -> Response:
    """The response for a request that the server refuses before the application sees it."""
    response = problem(_of_status(status), detail)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def of_error(error: AgentFlowError) -> Response:
    """The response for an AgentFlowError, by the nearest class in the table."""
    kind = next(TABLE[cls] for cls in type(error).__mro__ if cls in TABLE)
    if isinstance(error, errors.Busy):  # nothing is broken, and it may be frequent: no traceback
        logger.info("request_refused", extra={"request_id": g.get("request_id"), "reason": error.message})
        return problem(kind, error.message)
    if isinstance(
        error, errors.Unavailable | errors.Refused | errors.WrongSchema
    ):  # expected, and the same for everybody
        log_outage(logger, "request_refused_for_now", error, request_id=g.get("request_id"))
        return problem(kind, _default_message(type(error)))
    if kind.status >= 500:
        logger.error("request_failed", exc_info=error, extra={"request_id": g.get("request_id")})
        return problem(kind, _default_message(type(error)))
    problems = error.problems if isinstance(error, ClientError) else ()
    return problem(kind, error.message, problems, after=error.after if isinstance(error, errors.TooMany) else None)


def of_shape(error: ValidationError) -> Response:
    """The response for a query, path or body that does not match its model."""
    return of_error(malformed(error))


def of_http(error: HTTPException) -> ResponseReturnValue:
    """The response for what Flask refuses: unknown route, wrong method, body too large, ..."""
    if error.response is not None:  # a finished response that was raised
        return error.get_response()
    status = error.code or 500
    kind = _of_status(status)
    detail = error.description or error.name
    if status == 413:
        detail = f"the body is larger than {current_app.config['MAX_CONTENT_LENGTH']} bytes, the limit here"
    response = problem(kind, detail)
    for name, value in error.get_headers():
        if name.lower() in ("allow", "retry-after"):
            response.headers[name] = value
    return response


def of_bug(error: Exception) -> Response:
    """The response for an unexpected error. The log has the traceback."""
    logger.exception("request_failed", exc_info=error, extra={"request_id": g.get("request_id")})
    return problem(TABLE[AgentFlowError], "Something went wrong; the log tells more under the id in `instance`.")


def of_depth(error: RecursionError) -> Response:
    """The response for JSON that is nested too deeply to be parsed."""
    return problem(TABLE[Malformed], "the request is nested too deep")


def register(app: Flask) -> None:
    """Register these handlers for every error of the application."""
    app.register_error_handler(AgentFlowError, of_error)
    app.register_error_handler(HTTPException, of_http)
    app.register_error_handler(RecursionError, of_depth)
    app.register_error_handler(Exception, of_bug)


def _of_status(status: int) -> Kind:
    """The kind for an error of which only the status is known."""
    if status in _BY_STATUS:
        return TABLE[_BY_STATUS[status]]
    name = HTTPStatus(status).phrase
    return Kind(status, name.lower().replace(" ", "-"), name)


def _default_message(cls: type[Exception]) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]
