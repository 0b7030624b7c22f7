"""Serves the health checks for load balancers, `/healthz` (alive) and `/readyz` (ready). They need no key."""

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from agentflow import __version__
from agentflow.api.blueprint import name_of_the_view
from agentflow.api.replies import reply
from agentflow.proof import CHALLENGE, LONGEST, PROOF, prove
from agentflow.schemas.health import Health, Readiness
from agentflow.services import readiness
from agentflow.settings import settings

api = APIBlueprint(
    "health",
    __name__,
    abp_tags=[Tag(name="health", description="For load balancers.")],
    operation_id_callback=name_of_the_view,
)


@api.get("/healthz", responses={200: Health})
def healthz() -> Response:
    """The process answers."""
    response = reply(Health(version=__version__))
    challenge, secret = request.headers.get(CHALLENGE), settings().stack_secret
    if secret and challenge and len(challenge) <= LONGEST:
        response.headers[PROOF] = prove(secret, challenge)
    return response


@api.get("/readyz", responses={200: Readiness, 503: Readiness})
def readyz() -> Response:
    """The database is there with the right schema, and so is the broker: 200; else 503."""
    checks = readiness.checks()
    ready = all(found == readiness.OK for found in checks.values())
    return reply(Readiness(ready=ready, checks=checks), 200 if ready else 503)
