"""Checks that the database has this version's schema, waits for it, and upgrades it.

A schema is the tables (migrations in `alembic/`, in order) and the engine's functions (`hot/sql/*.sql`, replaced as a
whole). Both are upgraded in one transaction under one advisory lock, so that any number of processes may try at once
and a failure leaves nothing half done.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.pq import PGconn, Ping
from sqlalchemy import Connection, create_engine, inspect, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from agentflow.clock import monotonic
from agentflow.errors import Refused, Unavailable, WrongSchema
from agentflow.shipped import shipped
from agentflow.storage.connect import is_away, sqlalchemy_url

_LOCK = 0x41464C57  # "AFLW": one migration at a time
_LOCK_TIMEOUT = "10s"  # a migration that waits for a table's lock blocks everybody behind it
_STATEMENT_TIMEOUT = "15min"
_FIRST_PAUSE: Final = 0.2  # seconds between two looks; each is twice as long as the one before
_LONGEST_PAUSE: Final = 5.0
_SAID_EVERY: Final = 60.0  # seconds between two lines about it

_FULL: Final = re.compile("too many|connection slots|slots are reserved")
"""How a server, a role or a pooler says that all connections are taken: it lets us in when others have gone."""


def _functions() -> str:
    """All of `sql/*.sql`, in the order of their names."""
    folder = files("agentflow.storage.hot").joinpath("sql")
    return "\n".join(
        entry.read_text()
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".sql")
    )


def _digest(functions: str) -> str:
    return hashlib.sha256(functions.encode()).hexdigest()


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(shipped("alembic")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _connect(url: str) -> Iterator[Connection]:
    """A connection for migrations.

    Raises:
        Unavailable: the server cannot be reached, or goes away meanwhile.
        Refused: it does not let us in.
    """
    try:
        with create_engine(
            sqlalchemy_url(url), poolclass=NullPool, connect_args={"connect_timeout": 5}
        ).connect() as one:
            yield one
    except DBAPIError as error:
        if error.orig is None or not is_away(error.orig):
            raise
        reason = str(error.orig).strip()
        if _refuses(url, reason):
            raise Refused(f"PostgreSQL does not let us in: {reason}") from None
        raise Unavailable(f"PostgreSQL cannot be reached: {reason}") from None


def _refuses(url: str, reason: str) -> bool:
    """Whether a server serves others but refused us for `reason`: a name, a password, its own rules.

    The driver gives no SQLSTATE before there is a connection, so this asks the server whether it takes connections at
    all. It may have come up in between: only a second refusal counts.
    """
    if _FULL.search(reason):
        return False
    address = make_url(url).set(drivername="postgresql").update_query_dict({"connect_timeout": "5"})
    told = PGconn.ping(address.render_as_string(hide_password=False).encode())
    if told == Ping.NO_ATTEMPT:
        return True
    if told != Ping.OK:
        return False
    try:
        create_engine(sqlalchemy_url(url), poolclass=NullPool, connect_args={"connect_timeout": 5}).connect().close()
    except OperationalError as error:
        return not _FULL.search(str(error.orig))
    return False


def upgrade(url: str) -> None:
    """Bring the database at `url` to this version's schema. Does nothing if it is.

    Raises:
        Unavailable: the server cannot be reached.
        Refused: it does not let us in.
        WrongSchema: the database was written by a later version.
    """
    with _connect(url) as connection, connection.begin():
        connection.execute(text(f"SET LOCAL statement_timeout = '{_STATEMENT_TIMEOUT}'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
        _refuse_later_versions(connection)
        command.upgrade(_config(connection), "head")
        _install(connection, _functions())


def _install(connection: Connection, functions: str) -> None:
    digest = _digest(functions)
    if connection.scalar(text("SELECT digest FROM engine_functions")) == digest:
        return
    # CREATE OR REPLACE cannot change a function's results, so what is there goes first.
    stale = connection.scalars(
        text(
            "SELECT oid::regprocedure::text FROM pg_proc "
            "WHERE starts_with(proname, 'agentflow_') AND proname <> 'agentflow_now' "
            "AND pronamespace = current_schema()::regnamespace"
        )
    ).all()
    for signature in stale:
        connection.execute(text(f"DROP FUNCTION {signature}"))
    connection.exec_driver_sql(functions.replace("%", "%%"))
    connection.execute(text("DELETE FROM engine_functions"))
    connection.execute(text("INSERT INTO engine_functions (digest) VALUES (:digest)"), {"digest": digest})


def _refuse_later_versions(connection: Connection) -> None:
    scripts = ScriptDirectory.from_config(_config(connection))
    known = {script.revision for script in scripts.walk_revisions()}
    if later := set(MigrationContext.configure(connection).get_current_heads()) - known:
        raise WrongSchema(
            f"the database is at schema {', '.join(later)}, which this version does not know: "
            "it was written by a later version of agentflow; upgrade this one"
        )


def check(url: str) -> None:
    """Check that the database at `url` has this version's schema.

    Raises:
        Unavailable: the server cannot be reached.
        Refused: it does not let us in.
        WrongSchema: it has another schema, or none; the message says what to do.
    """
    with _connect(url) as connection:
        _refuse_later_versions(connection)
        wanted = ScriptDirectory.from_config(_config(connection)).get_current_head()
        found = MigrationContext.configure(connection).get_current_revision()
        if found != wanted:
            raise WrongSchema(
                f"the database is at schema {found or '(none)'}, this version of agentflow needs {wanted}: "
                "run `agentflow db upgrade`"
            )
        if connection.scalar(text("SELECT digest FROM engine_functions")) != _digest(_functions()):
            raise WrongSchema(
                "the engine's functions in the database are another version's: run `agentflow db upgrade` "
                "and then start this version's processes"
            )


def await_schema(url: str, patience: float | None, say: Callable[[str], object]) -> None:
    """Wait until the database at `url` can be reached, and check that it has this version's schema.

    Args:
        url: the database's address.
        patience: seconds to wait for it at most; None: for ever.
        say: is given a line to show at the first look that fails, and once a minute after that.

    Raises:
        Unavailable: it could not be reached for so long.
        Refused: it does not let us in.
        WrongSchema: it has another schema, or none.
    """
    began, pause, say_at = monotonic(), _FIRST_PAUSE, 0.0
    while True:
        try:
            check(url)
            return
        except Unavailable as error:
            waited = monotonic() - began
            if patience is not None and waited + pause > patience:
                raise
            if waited >= say_at:
                say(f"waiting for the database: {error.message}")
                say_at = waited + _SAID_EVERY
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def check_models(url: str) -> None:
    """Check that the sum of the migrations equals `tables.py` (what `alembic check` does).

    Raises:
        alembic.util.exc.AutogenerateDiffsDetected: they differ; the message lists how.
    """
    with _connect(url) as connection, connection.begin():
        command.check(_config(connection))
        assert inspect(connection).has_table("runs")


def new_revision(url: str, message: str) -> None:
    """Write a migration in `alembic/versions/` from what differs between `tables.py` and the database at `url`."""
    with _connect(url) as connection, connection.begin():
        command.revision(_config(connection), message, autogenerate=True)
