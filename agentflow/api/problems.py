"""Turns every error into an RFC 9457 problem document, by the table in `schemas/problem_kinds.py`.

Server errors are logged under the request's id, and the client learns only the id, because their messages may name
hosts and files.
"""

import logging
from collections.abc import Sequence
from http import HTTPStatus

from flask import Flask, Response, current_app, g, has_app_context
from flask.typing import ResponseReturnValue
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException, NotFound

from agentflow import errors
from agentflow.api.requests import malformed
from agentflow.errors import AgentFlowError, ClientError, Malformed, Problem
from agentflow.logs import log_outage
from agentflow.schemas.json_text import json_text
from agentflow.schemas.problem_kinds import TABLE, Kind, kind_of
from agentflow.schemas.problems import MEDIA_TYPE, TYPE_PREFIX, ProblemDocument, places

logger = logging.getLogger(__name__)

RETRY_AFTER = 1
"""Seconds after which a client may retry what was refused temporarily."""


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
    kind = kind_of(type(error))
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
    if status == 404 and error.description == NotFound.description:
        detail = "there is nothing at this address; an id in it is a whole UUID"
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
