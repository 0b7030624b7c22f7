"""The pool's connections are psycopg2's, say who they are, and tell an outage from a statement that is wrong."""

import subprocess
import sys

import psycopg2
import pytest
from installation import *  # noqa: F403
from sqlalchemy import text

from agentflow.errors import EngineError, Unavailable
from agentflow.settings import Settings
from agentflow.storage import connect
from agentflow.table import Table


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "postgresql+psycopg2", "postgresql+asyncpg"])
def test_whatever_driver_an_address_names_psycopg2_is_used(scheme: str) -> None:
    url = connect.sqlalchemy_url(f"{scheme}://me:secret@db.example.com:5433/agentflow?sslmode=require")
    written = url.render_as_string(hide_password=False)
    assert written == "postgresql+psycopg2://me:secret@db.example.com:5433/agentflow?sslmode=require"


def test_a_connection_says_who_it_is_and_notices_a_server_that_is_gone(environment: Settings) -> None:
    with connect.session() as session:
        driver = session.connection().connection.dbapi_connection
        assert isinstance(driver, psycopg2.extensions.connection)
        found = driver.info.dsn_parameters
        name = session.scalar(text("SHOW application_name"))
    assert name == "agentflow"
    assert {key: found[key] for key in ("keepalives_idle", "keepalives_interval", "keepalives_count")} == {
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "3",
    }
    assert found["connect_timeout"] == "5"


def fail_with(sqlstate: str) -> None:
    with connect.session() as session:
        session.execute(text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}', MESSAGE = 'no'; END $$"))


@pytest.mark.parametrize("sqlstate", ["08006", "25006", "40001", "40P01", "53100", "53300", "55P03", "57014", "57P03"])
def test_what_may_work_later_is_an_outage(environment: Settings, sqlstate: str) -> None:
    with pytest.raises(Unavailable, match="no"):
        fail_with(sqlstate)


@pytest.mark.parametrize("sqlstate", ["22003", "23505", "42601", "P0001", "XX000"])
def test_what_is_wrong_with_a_statement_is_none(environment: Settings, sqlstate: str) -> None:
    with pytest.raises(EngineError, match="PostgreSQL refuses a statement"):
        fail_with(sqlstate)


def test_a_server_that_ends_the_connection_is_away(environment: Settings) -> None:
    with pytest.raises(Unavailable), connect.session() as session:
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    with connect.session() as session:
        assert session.scalar(text("SELECT 1")) == 1


@pytest.mark.parametrize("module", ["agentflow.storage.connect", "agentflow.services.transaction"])
def test_whatever_opens_a_session_knows_all_tables(module: str) -> None:
    # Else a process that imported some of them only, as a command does, cannot write where a foreign key leads out.
    known = f"import {module}; from agentflow.table import Table; print(len(Table.metadata.sorted_tables))"
    done = subprocess.run([sys.executable, "-c", known], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) == len(Table.metadata.tables)
