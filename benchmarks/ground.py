"""Starts a PostgreSQL and a Valkey for the benchmark, in a temporary directory, durable as shipped.

Both sides share the Valkey: AgentFlow's messages use database 0, plain Celery's broker 1 and its result backend 2. The
shell's AGENTFLOW_ variables are removed, so that AgentFlow runs with its defaults.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy.orm import Session

from agentflow.accounts.store import add_user
from agentflow.embedded.postgres import DATABASE
from agentflow.embedded.stack import Stack
from agentflow.settings import settings
from agentflow.storage.connect import engine
from agentflow.storage.migrate import upgrade

_CHECKOUT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Ground:
    """The running servers.

    Attributes:
        folder: for logs, and the working directory of worker processes; it contains no configuration.
        stack: the servers.
        environment: the environment of every worker process.
        owner_id: the owner of graphs and runs.
    """

    folder: Path
    stack: Stack
    environment: Mapping[str, str]
    owner_id: UUID

    @property
    def database_url(self) -> str:
        return self.stack.database_url

    @property
    def canvas_broker(self) -> str:
        """Plain Celery's broker."""
        return _in_database(1, self.stack.broker_url)

    def fresh_database(self, name: str) -> str:
        """Create another migrated, empty database. Returns its address."""
        postgres = self.stack.postgres
        assert postgres is not None
        with closing(psycopg.connect(postgres.superuser_url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                statement = sql.SQL("create database {} owner {}")
                cursor.execute(statement.format(sql.Identifier(name), sql.Identifier(DATABASE)))
        url = postgres.url_of(name)
        upgrade(url)
        return url


@contextmanager
def ground() -> Iterator[Ground]:
    """Start the servers, and stop them at the end."""
    with tempfile.TemporaryDirectory(prefix="agentflow-bench-") as folder:
        path = Path(folder)
        with Stack(path / "data") as stack:
            yield _prepared(path, stack)
            engine.cache_clear()


def _prepared(folder: Path, stack: Stack) -> Ground:
    for name in [name for name in os.environ if name.startswith(("AGENTFLOW_", "CELERY_"))]:
        del os.environ[name]
    os.environ["AGENTFLOW_DATA_DIR"] = str(stack.data_dir)
    os.environ["AGENTFLOW_DATABASE_URL"] = stack.database_url
    os.environ["AGENTFLOW_BROKER_URL"] = stack.broker_url
    settings.cache_clear()
    upgrade(stack.database_url)
    environment = {
        **os.environ,
        "BENCH_BROKER": _in_database(1, stack.broker_url),
        "BENCH_BACKEND": _in_database(2, stack.broker_url),
        "PYTHONPATH": str(_CHECKOUT),  # for `celery -A benchmarks.canvas`
    }
    return Ground(folder, stack, environment, new_owner(stack.database_url))


def _in_database(number: int, valkey_url: str) -> str:
    return f"{valkey_url.rpartition('/')[0]}/{number}"


def new_owner(database_url: str) -> UUID:
    """Create a user in that database."""
    with Session(engine(database_url)) as session, session.begin():
        return add_user(session, "bench")
