"""Fixtures: AgentFlow in this process, on an empty database and broker, with an owner and a stranger who have keys.

A conftest.py that wants them says `from installation import *`.
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from copy import deepcopy
from typing import Any
from uuid import UUID

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg import sql
from sqlalchemy import delete, text
from steps import execute
from werkzeug.serving import make_server

from agentflow.accounts import keys, store
from agentflow.api.app import create_app
from agentflow.dispatch.publish import publisher
from agentflow.embedded.postgres import DATABASE, Postgres
from agentflow.services.transaction import transaction
from agentflow.settings import Settings, settings
from agentflow.storage import connect
from agentflow.storage.tables import Table
from agentflow.worker.finalise import finalise
from agentflow.worker.process import process

INPUT = "c0a8e994-ebf1-4a9c-a4d8-89d09c86741b"
OUTPUT = "363ae599-353e-4804-937e-b2ee3cef3da4"

ECHO: dict[str, Any] = {
    "name": "echo",
    "nodes": [
        {"id": "in", "block_id": INPUT, "input_default": {"name": "word"}},
        {"id": "out", "block_id": OUTPUT, "input_default": {"name": "said"}},
    ],
    "links": [{"source_id": "in", "source_name": "result", "sink_id": "out", "sink_name": "value"}],
}
"""A graph that gives what it gets."""

CREDENTIAL_KEY = "a" * 42 + "A="
"""The key that encrypts credentials in tests."""

_numbers = itertools.count(1)


@pytest.fixture
def echo() -> dict[str, Any]:
    """A graph that gives what it gets; the test may change it."""
    return deepcopy(ECHO)


@pytest.fixture(scope="module")
def shared_database(postgres: Postgres, _migrated: str) -> Iterator[str]:
    """One database for the tests of a module: they are many, and each leaves few rows."""
    name = f"shared_{next(_numbers)}"
    with closing(psycopg.connect(postgres.superuser_url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            statement = sql.SQL("create database {} owner {} template {} strategy file_copy")
            cursor.execute(statement.format(*map(sql.Identifier, (name, DATABASE, _migrated))))
            yield postgres.url_of(name)
            cursor.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def _empty() -> None:
    kept = ("engine_functions",)
    with transaction() as session:
        for table in reversed(Table.metadata.sorted_tables):
            if table.name in ("audit_entries", "credit_transactions"):  # which refuse to delete
                session.execute(text(f"TRUNCATE {table.name}"))
            elif table.name not in kept:
                session.execute(delete(table))


@pytest.fixture
def environment(shared_database: str, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """This process on an empty database and an empty broker."""
    monkeypatch.setenv("AGENTFLOW_DATABASE_URL", shared_database)
    monkeypatch.setenv("AGENTFLOW_BROKER_URL", broker_url)
    monkeypatch.setenv("AGENTFLOW_CREDENTIAL_KEYS", CREDENTIAL_KEY)
    _forget()
    _empty()
    yield settings()
    if process.cache_info().currsize:
        process().hot.close()
    connect.engine().dispose()
    publisher()._forget()
    _forget()


def _forget() -> None:
    for kept in (settings, connect.engine, connect._sessions, publisher, process):
        kept.cache_clear()


@pytest.fixture
def app(environment: Settings) -> Flask:
    return create_app(environment)


def _key(name: str) -> str:
    with transaction() as session:
        return keys.create(session, store.add_user(session, name), name)[0]


def _caller(app: Flask, key: str) -> FlaskClient:
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    return client


@pytest.fixture
def key(environment: Settings) -> str:
    """The key of an owner."""
    return _key("owner")


@pytest.fixture
def api(app: Flask, key: str) -> FlaskClient:
    """The owner, asking without a network."""
    return _caller(app, key)


@pytest.fixture
def stranger(app: Flask) -> FlaskClient:
    """Someone else with a key."""
    return _caller(app, _key("stranger"))


@pytest.fixture
def url(app: Flask) -> Iterator[str]:
    """The address at which the application answers over HTTP."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def rows(environment: Settings) -> Callable[[], dict[str, int]]:
    """How many rows each table has that a request could have written to."""
    tables = ("graphs", "graph_versions", "runs", "idempotency_keys", "node_executions", "outputs", "events")

    def count() -> dict[str, int]:
        with transaction() as session:
            return {table: session.scalar(text(f"SELECT count(*) FROM {table}")) for table in tables}

    return count


@pytest.fixture
def submit(api: FlaskClient) -> Callable[..., UUID]:
    """Submits a graph inline, by default even if inputs lack, and gives the run's id."""

    def send(document: dict[str, Any] | None = None, inputs: dict[str, Any] | None = None, **more: Any) -> UUID:
        body = {"graph": document or ECHO, "inputs": inputs or {}, "allow_missing_inputs": True, **more}
        reply = api.post("/api/v1/runs", json=body)
        assert reply.status_code == 202, reply.json
        return UUID(reply.json["id"])

    return send


@pytest.fixture
def work(environment: Settings) -> Callable[..., None]:
    """Does in this process what workers would do with a run, up to `most` node executions, and ends it."""
    queued = text(
        "SELECT node, idx FROM node_executions WHERE run_id = :run AND status = 'QUEUED' AND hold IS NULL "
        "ORDER BY node, idx"
    )

    def go_on(run_id: UUID, most: int = 1000) -> None:
        for _ in range(most):
            with transaction() as session:
                first = session.execute(queued, {"run": run_id}).first()
            if first is None:
                break
            execute(run_id, first.node, first.idx)
        finalise(run_id)

    return go_on


@pytest.fixture
def outcome(api: FlaskClient, work: Callable[..., None]) -> Callable[..., dict[str, Any]]:
    """Runs a stored graph, by default even if inputs lack, and its child runs to their ends, and gives the run."""
    some = text("SELECT DISTINCT run_id FROM node_executions WHERE status = 'QUEUED' AND hold IS NULL ORDER BY run_id")
    opened = text("SELECT id FROM runs WHERE ended_at IS NULL ORDER BY id DESC")

    def of(graph_id: Any, inputs: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        body = {"inputs": inputs or {}, "allow_missing_inputs": True, **more}
        reply = api.post(f"/api/v1/graphs/{graph_id}/runs", json=body)
        assert reply.status_code == 202, reply.json
        for _ in range(100):
            with transaction() as session:
                runs = session.scalars(some).all() or session.scalars(opened).all()
            if not runs:
                seen: dict[str, Any] = api.get(f"/api/v1/runs/{reply.json['id']}").json
                return seen
            for run in runs:
                work(run)
        raise AssertionError("the run has not ended")

    return of


@pytest.fixture
def push(api: FlaskClient) -> Callable[..., UUID]:
    """Stores a graph and gives its id."""

    def store(document: dict[str, Any] | None = None) -> UUID:
        reply = api.post("/api/v1/graphs", json=document or ECHO)
        assert reply.status_code == 201, reply.json
        return UUID(reply.json["id"])

    return store
