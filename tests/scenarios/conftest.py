"""Whole runs over HTTP: a real API server and real worker processes on a real PostgreSQL and a real Valkey."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from fleet import Fleet
from psycopg import sql
from sqlalchemy import create_engine, text

from agentflow.embedded.postgres import DATABASE, Postgres
from agentflow.embedded.stack import Stack

WORKERS = int(os.environ.get("AGENTFLOW_TEST_WORKERS", "2"))
"""Read here, before the tests put the environment's AGENTFLOW_… away."""


def _execute(postgres: Postgres, statement: sql.Composed) -> None:
    connection = psycopg.connect(postgres.superuser_url)
    try:
        connection.autocommit = True
        connection.cursor().execute(statement)
    finally:
        connection.close()


@pytest.fixture(scope="session")
def _fleet(
    stack: Stack, postgres: Postgres, _migrated: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    name = sql.Identifier("scenarios")
    _execute(
        postgres,
        sql.SQL("create database {} owner {} template {}").format(
            name, sql.Identifier(DATABASE), sql.Identifier(_migrated)
        ),
    )
    # A database of its own at the broker: other tests empty theirs.
    fleet = Fleet(
        postgres.url_of("scenarios"),
        stack.broker_url.rsplit("/", 1)[0] + "/7",
        tmp_path_factory.mktemp("fleet"),
        environment={"AGENTFLOW_SHOW_TRACEBACKS": "true"},
    )
    try:
        fleet.start_web()
        yield fleet
    finally:
        fleet.stop()


@pytest.fixture
def fleet(_fleet: Fleet) -> Fleet:
    """An API server and two worker processes, or as many as AGENTFLOW_TEST_WORKERS says, all alive."""
    _fleet.have_workers(WORKERS)
    return _fleet


@pytest.fixture
def broker(fleet: Fleet) -> Iterator[Any]:
    """A client of the fleet's broker."""
    with redis.Redis.from_url(fleet.broker_url) as client:
        yield client


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A file in which the blocks of a scenario note that they ran: node, index, attempt, process."""
    return tmp_path / "log"


@pytest.fixture
def rows(fleet: Fleet) -> Iterator[Any]:
    """`rows(statement, name=value, …)`: what the fleet's database says, as tuples."""
    engine = create_engine(fleet.database_url)

    def ask(statement: str, **values: Any) -> list[Any]:
        with engine.begin() as connection:
            return [tuple(row) for row in connection.execute(text(statement), values)]

    yield ask
    engine.dispose()
