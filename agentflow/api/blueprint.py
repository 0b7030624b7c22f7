"""What do the blueprints of `/api/v1` share? Their prefix, the key they need, and the problems they answer with."""

from uuid import UUID

from flask import current_app, g, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from agentflow.api.auth import key_in

PREFIX = "/api/v1"


def blueprint(noun: str, about: str) -> APIBlueprint:
    """The blueprint for a noun; every request to it needs a key."""
    made = APIBlueprint(
        noun,
        __name__,
        url_prefix=PREFIX,
        abp_tags=[Tag(name=noun, description=about)],
        abp_security=[{"key": []}],
        operation_id_callback=name_of_the_view,
    )
    made.before_request(_identify)
    return made


def name_of_the_view(*, name: str, **_: str) -> str:
    """What generated clients call an operation."""
    return name


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
