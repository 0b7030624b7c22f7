"""What needs no key: health checks, the OpenAPI document and the page that shows it."""

import pytest
from sqlalchemy import text

from agentflow.api.scopes import OPEN, SIGNED
from agentflow.services import readiness
from agentflow.services.transaction import transaction


@pytest.fixture(autouse=True)
def _no_kept_answer():
    readiness.checks.cache_clear()


def test_the_process_answers(app):
    reply = app.test_client().get("/healthz")
    assert (reply.status_code, reply.json["status"]) == (200, "ok")


def test_it_is_ready_when_database_and_broker_are(app):
    reply = app.test_client().get("/readyz")
    assert (reply.status_code, reply.json) == (200, {"ready": True, "checks": {"database": "ok", "broker": "ok"}})


def test_it_is_not_ready_with_another_schema(app):
    with transaction() as session:
        ours = session.scalar(text("SELECT digest FROM engine_functions"))
        session.execute(text("UPDATE engine_functions SET digest = 'other'"))
    reply = app.test_client().get("/readyz")
    with transaction() as session:
        session.execute(text("UPDATE engine_functions SET digest = :ours"), {"ours": ours})
    assert reply.status_code == 503
    assert reply.json["checks"]["broker"] == "ok"
    assert "schema" in reply.json["checks"]["database"]


def test_it_is_not_ready_without_the_broker(app, environment, monkeypatch):
    monkeypatch.setattr(environment, "broker_url", "redis://127.0.0.1:1/0")
    reply = app.test_client().get("/readyz")
    assert reply.status_code == 503
    assert reply.json["checks"] == {"database": "ok", "broker": "The broker cannot be reached."}


def test_the_openapi_document_names_every_route(app):
    document = app.test_client().get("/openapi.json").json
    described = set(document["paths"])
    routes = {
        rule.rule.replace("<uuid:", "{").replace("<path:", "{").replace("<", "{").replace(">", "}")
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/v1")
    }
    assert routes <= described
    for path in routes:
        for operation in document["paths"][path].values():
            # What needs no key holds nothing of anybody's, gives a session, or must be signed.
            needs_key = operation["operationId"] not in OPEN | SIGNED | {"graph_schema"}
            assert operation.get("security") == ([{"key": []}, {"session": []}] if needs_key else None)
            assert operation["summary"]


def test_the_page_brings_everything_it_needs(app):
    client = app.test_client()
    page = client.get("/docs")
    assert page.status_code == 200
    for part in ("docs/swagger/css/swagger-ui.css", "docs/swagger/js/swagger-ui-bundle.js", "docs/start.js"):
        assert part in page.text
        with client.get(f"/{part}") as reply:
            assert reply.status_code == 200
    page.close()


def test_the_page_gives_no_other_file_away(app):
    assert app.test_client().get("/docs/swagger/../plugins.py").status_code == 404


def test_blocks_are_described(api):
    found = {block["name"]: block for block in api.get("/api/v1/blocks").json["items"]}
    assert "AgentInput" in found
    assert "PrintToConsole" not in found  # which no graph may use
    assert list(found) == sorted(found)
    one = api.get(f"/api/v1/blocks/{found['AgentInput']['id']}").json
    assert one == found["AgentInput"]
    assert set(one) == {
        "id", "name", "inputSchema", "outputSchema", "costs", "description",
        "categories", "contributors", "staticOutput", "uiType",
    }  # fmt: skip
    assert (one["uiType"], one["staticOutput"], one["costs"], one["contributors"]) == ("Input", True, [], [])
    assert one["inputSchema"]["required"] == ["name"]
    assert one["categories"] == [{"category": "INPUT", "description": ""}, {"category": "BASIC", "description": ""}]
    assert "error" not in one["outputSchema"]["properties"]
    assert "error" in found["TextSplit"]["outputSchema"]["properties"]
    assert {block["uiType"] for block in found.values()} >= {
        "Standard", "Input", "Output", "Note", "Agent", "AI", "Webhook (manual)", "Human In The Loop",
    }  # fmt: skip


def test_the_bare_address_shows_the_page(app):
    bare, page = (app.test_client().get(path) for path in ("/", "/docs"))
    assert (bare.status_code, bare.get_data()) == (200, page.get_data())
