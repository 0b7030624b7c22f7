"""Classifies failed requests to a language model: the user's fault (BadInput), or worth a retry (Transient).

A message must never contain a key: providers like to quote the one that they refuse. Needs the extra `ai`.
"""

import json
from collections.abc import Iterator
from ssl import SSLCertVerificationError
from typing import Any, Final

import httpx2
from pydantic import ValidationError
from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRequestRejectedError,
    ModelTimeoutError,
    UserError,
)

from agentflow.blocks.ai.model_requests import Endpoint, TooLong
from agentflow.errors import BadInput, NodeFailure, Transient
from agentflow.net.answers import retry_after

_TRANSIENT: Final = frozenset({408, 409, 425, 429})
"""Statuses below 500 that are worth a retry: request timeout, conflict, too early, too many requests."""

_SHAPE_ERRORS: Final = (AssertionError, AttributeError, LookupError, RecursionError, TypeError)
"""Errors that a reply of the wrong shape causes inside the libraries. Their messages are about Python, so not shown."""

_LONGEST: Final = 500
"""Characters of a provider's message that are passed on."""


def failure_of(error: Exception, endpoint: Endpoint, model: str) -> NodeFailure:
    """Converts an error of a library to one that the engine understands."""
    who = f"{endpoint.provider} (model {model})"
    for cause in _causes(error):
        if isinstance(cause, NodeFailure):  # raised by the guard, below the SDK
            return cause
        if isinstance(cause, SSLCertVerificationError):
            return BadInput(f"the TLS certificate of {who} cannot be trusted")
        if isinstance(cause, UnicodeEncodeError | httpx2.LocalProtocolError):
            return BadInput(f"the request to {who} cannot be sent: it has characters that no text or header may have")
    if isinstance(error, ModelContextWindowExceededError):
        return TooLong(f"{who} cannot read so much: {_message(error, endpoint)}")
    if isinstance(error, ModelTimeoutError):
        return Transient(f"{who} did not answer in time")
    if isinstance(error, ModelHTTPError):
        text = f"{who} answered with status {error.status_code}: {_message(error, endpoint)}"
        return Transient(text, after=_after(error)) if _is_transient(error) else BadInput(text)
    if isinstance(error, ModelQuotaExceededError | ModelRequestRejectedError):
        return BadInput(f"{who} refuses the request: {_message(error, endpoint)}")
    if any(300 <= getattr(cause, "status_code", 0) < 400 for cause in _causes(error)):
        return BadInput(f"{who} redirects elsewhere, which is not followed: {_message(error, endpoint)}")
    if isinstance(error, UserError):
        return BadInput(f"{who} cannot be asked like this: {_clean(str(error), endpoint)}")
    if isinstance(error, _SHAPE_ERRORS) or any(isinstance(cause, ValidationError) for cause in _causes(error)):
        return Transient(f"{who} did not answer as it should: its reply has not the shape of one")
    return Transient(f"{who} did not answer as it should: {_message(error, endpoint)}")


def broken_off(endpoint: Endpoint) -> Transient:
    """The error for a stream that stopped before its end."""
    return Transient(f"{endpoint.provider} broke off in the middle of its answer")


def _is_transient(error: ModelHTTPError) -> bool:
    if isinstance(error, ModelQuotaExceededError):
        return False  # also a 429, but it stays until somebody pays
    return error.status_code in _TRANSIENT or error.status_code >= 500


def _after(error: Exception) -> float | None:
    """Seconds to wait, as the provider asks. The reply is in the SDK's error, which caused ours."""
    replies = (getattr(cause, "response", None) for cause in _causes(error))
    return next((retry_after(reply.headers) for reply in replies if isinstance(reply, httpx2.Response)), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _message(error: Exception, endpoint: Endpoint) -> str:
    """The provider's message, if it can be found."""
    body = error.body if isinstance(error, ModelAPIError) else None
    text = _inner(body) or getattr(error, "message", "") or str(error) or type(error).__name__
    return _clean(text, endpoint)


def _inner(body: Any) -> str:
    """The text inside the usual wrappings: a text, {"message": …}, {"error": …}."""
    if isinstance(body, dict):
        for name in ("error", "message", "detail"):
            if found := _inner(body.get(name)):
                return found
        return json.dumps(body, ensure_ascii=False, default=str) if body else ""
    return body.strip() if isinstance(body, str) else ""


def _clean(text: str, endpoint: Endpoint) -> str:
    """`text` without the endpoint's secrets, and not too long."""
    credential = endpoint.credential
    secrets = (credential.api_key, credential.password, *credential.headers.values()) if credential else ()
    for secret in secrets:
        if secret:
            text = text.replace(secret, "…")
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
