"""The application on a fresh database, with an owner and a stranger who each have a key."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from agentflow.api.app import create_app
from agentflow.dispatch.publish import publisher
from agentflow.services import api_keys
from agentflow.services.transaction import transaction
from agentflow.settings import Settings, settings
from agentflow.storage import connect, users
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

INPUT = "c0a8e994-ebf1-4a9c-a4d8-89d09c86741b"
NUMBER = "96dae2bb-97a2-41c2-bd2f-13a3b5a8ea98"
OUTPUT = "363ae599-353e-4804-937e-b2ee3cef3da4"
STORE = "1ff065e9-88e8-4358-9d82-8dc91f622ba9"
COUNT = "3c9c2f42-b0c3-435f-ba35-05f7a25c772a"


def node(id: str, block: str, **literals: Any) -> dict[str, Any]:
    return {"id": id, "block_id": block, "input_default": literals}


def link(source: str, source_pin: str, sink: str, sink_pin: str) -> dict[str, Any]:
    return {"source_id": source, "source_name": source_pin, "sink_id": sink, "sink_name": sink_pin}


def echo(name: str = "echo") -> dict[str, Any]:
    """A graph that gives what it gets."""
    return {
        "name": name,
        "nodes": [node("in", INPUT, name="word"), node("out", OUTPUT, name="said")],
        "links": [link("in", "result", "out", "value")],
    }


@pytest.fixture
def environment(database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """This process on the test's own database and broker."""
    monkeypatch.setenv("AGENTFLOW_DATABASE_URL", database_url)
    monkeypatch.setenv("AGENTFLOW_BROKER_URL", broker_url)
    _forget()
    yield settings()
    connect.engine().dispose()
    publisher()._forget()
    _forget()


def _forget() -> None:
    for kept in (settings, connect.engine, connect._sessions, publisher):
        kept.cache_clear()


@pytest.fixture
def app(environment: Settings) -> Flask:
    return create_app(environment)


def _caller(app: Flask, name: str) -> FlaskClient:
    with transaction() as session:
        key = api_keys.create(session, users.add_user(session, name), name)
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    return client


@pytest.fixture
def api(app: Flask) -> FlaskClient:
    """Someone with a key."""
    return _caller(app, "owner")


@pytest.fixture
def stranger(app: Flask) -> FlaskClient:
    """Someone else with a key."""
    return _caller(app, "stranger")


@pytest.fixture
def rows(environment: Settings) -> Callable[[], dict[str, int]]:
    """How many rows each table has that a request could have written to."""
    tables = ("graphs", "graph_versions", "runs", "idempotency_keys", "node_executions", "outputs", "events")

    def count() -> dict[str, int]:
        with transaction() as session:
            return {table: session.scalar(text(f"SELECT count(*) FROM {table}")) for table in tables}

    return count


@pytest.fixture
def push(api: FlaskClient) -> Callable[..., UUID]:
    """Stores a graph and gives its id."""

    def store(document: dict[str, Any] | None = None) -> UUID:
        reply = api.post("/api/v1/graphs", json=document or echo())
        assert reply.status_code == 201, reply.json
        return UUID(reply.json["id"])

    return store
