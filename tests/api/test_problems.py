"""Every error is a problem document, and none says more than it may."""

import inspect
import uuid

import pytest

from agentflow import errors
from agentflow.api import problems
from agentflow.errors import AgentFlowError
from agentflow.schemas.problem_kinds import TABLE
from agentflow.schemas.problems import MAX_PLACES
from agentflow.services import blocks

TREE = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, AgentFlowError)]


@pytest.mark.parametrize("cls", TREE, ids=lambda cls: cls.__name__)
def test_no_error_is_unmapped(cls):
    assert cls in TABLE


def test_slugs_tell_errors_apart():
    slugs = [kind.slug for kind in TABLE.values()]
    assert len(slugs) == len(set(slugs))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.NotFound("there is no such thing"), 404),
        (errors.GraphInvalid("wrong", [errors.Problem("here", "n", "p")]), 422),
        (errors.TooMany("slower"), 429),
        (errors.Unavailable("secret-host:5432 is down"), 503),
        (errors.EngineError("/etc/secret"), 500),
        (ValueError("/etc/secret"), 500),
        (RecursionError("deep"), 400),
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_is_raised_becomes_a_problem(app, api, monkeypatch, error, status):
    def fail():
        raise error

    monkeypatch.setattr(blocks, "every", fail)
    reply = api.get("/api/v1/blocks")
    assert reply.status_code == status
    assert reply.mimetype == "application/problem+json"
    assert reply.json["status"] == status
    assert "secret" not in reply.text
    assert "Traceback" not in reply.text
    assert uuid.UUID(reply.json["instance"].removeprefix("urn:uuid:")) == uuid.UUID(reply.headers["X-Request-Id"])
    assert ("Retry-After" in reply.headers) == (status in (429, 503))
    if isinstance(error, errors.GraphInvalid):
        assert reply.json["errors"] == [{"message": "here", "node": "n", "pin": "p", "severity": "error"}]


def test_a_problem_names_no_more_places_than_anyone_reads(app):
    with app.test_request_context():
        many = [errors.Problem(f"number {number}") for number in range(MAX_PLACES + 5)]
        response = problems.of_error(errors.GraphInvalid("wrong", many))
    assert len(response.json["errors"]) == MAX_PLACES + 1
    assert response.json["errors"][-1]["message"] == "and 5 more"


def test_every_reply_carries_the_headers_that_protect(api):
    reply = api.get("/api/v1/blocks")
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in reply.headers["Content-Security-Policy"]


def test_a_request_keeps_the_id_that_a_proxy_gave_it(api):
    given = str(uuid.uuid4())
    assert api.get("/healthz", headers={"X-Request-Id": given}).headers["X-Request-Id"] == given
    assert api.get("/healthz", headers={"X-Request-Id": "forged\tline"}).headers["X-Request-Id"] != "forged\tline"
