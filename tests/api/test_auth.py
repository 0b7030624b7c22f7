"""Keys: who has none is told so, and a key is known for what it was."""

import pytest
from sqlalchemy import text

from agentflow.services import authentication as auth
from agentflow.services.transaction import transaction


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic b3duZXI6cHc="},
        {"Authorization": "Bearer af_wrong"},
        {"Authorization": "Bearer af_" + "x" * 43},
        {"X-API-Key": "af_" + "x" * 43},
    ],
)
def test_a_request_without_a_known_key_is_refused(app, headers):
    reply = app.test_client().get("/api/v1/graphs", headers=headers)
    assert reply.status_code == 401
    assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert reply.json["type"] == "urn:agentflow:problem:unauthenticated"


def test_a_body_is_not_even_read_without_a_key(app):
    reply = app.test_client().post("/api/v1/graphs", data=b"{", content_type="application/json")
    assert reply.status_code == 401


def test_a_key_works_in_either_header(app, api):
    key = api.environ_base["HTTP_AUTHORIZATION"].removeprefix("Bearer ")
    assert app.test_client().get("/api/v1/graphs", headers={"X-API-Key": key}).status_code == 200
    assert app.test_client().get("/api/v1/graphs", headers={"Authorization": f"bearer {key}"}).status_code == 200


def test_the_use_of_a_key_is_noted_to_the_minute(api):
    api.get("/api/v1/graphs")
    with transaction() as session:
        used = session.scalar(text("SELECT last_used_at FROM api_keys"))
    assert (used.second, used.microsecond) == (0, 0)


def test_a_key_that_is_revoked_behind_the_apis_back_stops_when_it_is_no_longer_cached(app, api, listens, monkeypatch):
    listens(api)
    assert api.get("/api/v1/graphs").status_code == 200
    with transaction() as session:
        session.execute(text("UPDATE api_keys SET revoked_at = now()"))
    assert api.get("/api/v1/graphs").status_code == 200, "it is cached"
    later = auth.clock.monotonic() + 30  # seconds: the most that it may take without Redis
    monkeypatch.setattr(auth.clock, "monotonic", lambda: later)
    assert api.get("/api/v1/graphs").status_code == 401
