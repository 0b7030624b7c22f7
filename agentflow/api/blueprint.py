"""What do the blueprints of `/api/v1` share? Their prefix, the key they need, and the problems they answer with."""

from typing import Any
from uuid import UUID

from flask import current_app, g, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from agentflow.api.auth import key_in
from agentflow.schemas.problems import MEDIA_TYPE, ProblemDocument

PREFIX = "/api/v1"

_PROBLEMS = {
    400: "The request is malformed.",
    401: "An API key is needed.",
    404: "There is no such thing, or it is someone else's.",
    409: "The state of the thing does not allow this.",
    413: "The body, the graph or a value is too large.",
    422: "The graph or its inputs are not valid: `errors` names every place.",
    429: "Too many requests.",
    503: "A part of AgentFlow cannot be reached; try again.",
}


def _response(description: str) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": ProblemDocument.model_json_schema()}}}


def blueprint(noun: str, about: str) -> APIBlueprint:
    """The blueprint for a noun; every request to it needs a key."""
    made = APIBlueprint(
        noun,
        __name__,
        url_prefix=PREFIX,
        abp_tags=[Tag(name=noun, description=about)],
        abp_security=[{"key": []}],
        abp_responses={status: _response(text) for status, text in _PROBLEMS.items()},
    )
    made.before_request(_identify)
    return made


def _identify() -> None:
    key = key_in(request)
    owner = current_app.extensions["doorkeeper"].owner_of(key)
    current_app.extensions["rate"].take(owner_and_key(owner, key))
    g.owner_id = owner


def owner_and_key(owner: UUID, key: str) -> tuple[UUID, int]:
    """What the rate is counted for; not the key itself, which nobody keeps."""
    return owner, hash(key)


def owner_id() -> UUID:
    """Whose request this is."""
    found: UUID = g.owner_id
    return found
