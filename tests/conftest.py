"""What tests run on: one real PostgreSQL and one real Valkey for the session, a fresh database for each test that asks.

A fresh database is a copy of a migrated one, which PostgreSQL makes in some tens of milliseconds.
"""

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import hypothesis
import psycopg
import pytest
import redis
from psycopg import sql

from agentflow.embedded.postgres import DATABASE, Postgres
from agentflow.embedded.stack import Stack
from agentflow.settings import settings

_TEMPLATE = "migrated"

hypothesis.settings.register_profile("untimed", deadline=None)  # on a busy machine anything takes long once
hypothesis.settings.load_profile("untimed")


_FIRST = ("scenarios", "live", "cli", "examples", "embedded")
"""Folders with tests that take long. They come first: at the end, one alone would keep all processes waiting."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the folders of `_FIRST` first."""
    items.sort(key=lambda item: item.path.parent.name not in _FIRST)


def _eventually(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def eventually() -> Callable[..., None]:
    """`eventually(condition, seconds=20)` waits until the condition holds, and fails the test if it does not."""
    return _eventually


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Shells start background jobs with SIGINT ignored, and all processes below inherit that: tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _no_stack_of_the_developer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reaches the stack that somebody runs from this folder, nor what their environment points at."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AGENTFLOW_")]:
            patch.delenv(name)
        patch.setenv("AGENTFLOW_DATA_DIR", str(tmp_path_factory.mktemp("no-stack")))
        settings.cache_clear()
        yield
    settings.cache_clear()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The running servers of this test session."""
    with Stack(Path(tmp_path_factory.mktemp("servers")) / "data", durable=False) as running:
        yield running


@pytest.fixture(scope="session")
def postgres(stack: Stack) -> Postgres:
    """The running PostgreSQL: `url_of(name)`, `superuser_url`."""
    assert stack.postgres is not None
    return stack.postgres


@pytest.fixture(scope="session")
def _migrated(postgres: Postgres) -> str:
    """The name of a database with the present schema, nothing in it, and a trigger that refuses illegal moves."""
    # Not at the top: the tests of the servers must run where nothing else can be imported.
    from illegal_moves import trigger

    from agentflow.storage.migrate import upgrade

    _execute(postgres, sql.SQL("create database {} owner {}"), _TEMPLATE, DATABASE)
    upgrade(postgres.url_of(_TEMPLATE))
    with closing(psycopg.connect(postgres.url_of(_TEMPLATE))) as connection, connection, connection.cursor() as cursor:
        cursor.execute(trigger())
    return _TEMPLATE


_numbers = itertools.count(1)


@pytest.fixture
def empty_database_url(postgres: Postgres) -> Iterator[str]:
    """The address of a fresh database without any schema."""
    name = f"empty_{next(_numbers)}"
    _execute(postgres, sql.SQL("create database {} owner {}"), name, DATABASE)
    yield postgres.url_of(name)
    _execute(postgres, sql.SQL("drop database {} with (force)"), name)


@pytest.fixture
def database_url(postgres: Postgres, _migrated: str) -> Iterator[str]:
    """The address of a fresh database with the present schema, as AgentFlow's role."""
    name = f"test_{next(_numbers)}"
    # The default strategy writes a copy to the log; copying files is faster where nothing is synced.
    statement = sql.SQL("create database {} owner {} template {} strategy file_copy")
    _execute(postgres, statement, name, DATABASE, _migrated)
    yield postgres.url_of(name)
    _execute(postgres, sql.SQL("drop database {} with (force)"), name)


@pytest.fixture
def broker_url(stack: Stack) -> str:
    """The address of an empty Valkey."""
    with redis.Redis.from_url(stack.broker_url) as client:
        client.flushdb()
    return stack.broker_url


def _execute(postgres: Postgres, statement: sql.SQL, *names: str) -> None:
    with closing(psycopg.connect(postgres.superuser_url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement.format(*map(sql.Identifier, names)))
