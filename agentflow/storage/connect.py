"""Connects a process to PostgreSQL: through one small SQLAlchemy pool, and one hot connection.

The pool serves plain queries in transactions, by psycopg2, which prepares nothing: the best plan of a list depends on
whose rows it lists. The hot connection serves claim and settle, by psycopg 3: autocommit (BEGIN and COMMIT would be
round trips), no ping before use, statements prepared once. Neither survives a fork, because a child would share its
parent's socket: `after_fork` drops both without telling the server.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import psycopg
import psycopg2
from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

# A session sorts what it writes by foreign keys, so a process that opens one must know all tables.
import agentflow.storage.tables  # noqa: F401
from agentflow.errors import EngineError, Unavailable
from agentflow.settings import settings

logger = logging.getLogger(__name__)

POOL_SIZE = 5
"""Connections that one process keeps for plain queries; a worker child uses one of them, the API several."""

MAX_OVERFLOW = 15
"""Further ones under load. Budget of an installation: (POOL_SIZE + MAX_OVERFLOW) a web process; 2 a worker child (the
hot one, and one for plans and the finaliser); 3 a worker's main process (the same, and the keeper's)."""

_KEEPALIVE: Final[dict[str, Any]] = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}  # seconds

AWAY: Final = ("08", "53", "57", "25006", "25P03", "40", "55P03")
"""SQLSTATEs, or their beginnings, with which a server says: not now. Connection, resources (a full disk too), shutdown,
a standby that was promoted elsewhere, a transaction that was idle for too long, conflicts that did not resolve. The
same call may work later."""

_FROZEN: Final = "-c idle_in_transaction_session_timeout=60s"
"""A process that is frozen in the middle of a transaction loses its locks."""

_HOT_OPTIONS = (
    # A generic plan made while a table was empty would otherwise stay a sequential scan, or a bitmap scan of a run's
    # whole key range; every hot statement is a look-up by full key, for which planning again costs more than it gives.
    "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_bitmapscan=off -c jit=off "
    f"-c lock_timeout=5s {_FROZEN}"
)


def sqlalchemy_url(url: str) -> URL:
    """`url` as SQLAlchemy wants it, with the psycopg2 driver."""
    return make_url(url).set(drivername="postgresql+psycopg2")


@cache
def engine(url: str | None = None) -> Engine:
    """The engine of this process for `url`, by default the configured database."""
    return create_engine(
        sqlalchemy_url(url or settings().database()),
        pool_size=POOL_SIZE,
        max_overflow=MAX_OVERFLOW,
        pool_pre_ping=True,
        pool_timeout=10,
        connect_args={**_KEEPALIVE, "connect_timeout": 5, "application_name": "agentflow", "options": _FROZEN},
    )


@cache
def _sessions() -> sessionmaker[Session]:
    return sessionmaker(engine(), expire_on_commit=False)


@cache
def reading_engine() -> Engine:
    """The engine of this process for `reading`: each statement is a transaction, and connections are not tried before.

    Both would be round trips, which are most of what a small look costs. A connection that is broken fails once.
    """
    return create_engine(
        sqlalchemy_url(settings().database()),
        isolation_level="AUTOCOMMIT",
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=10,
        pool_reset_on_return=None,
        connect_args={
            **_KEEPALIVE,
            "connect_timeout": 5,
            "application_name": "agentflow",
            "options": f"-c jit=off {_FROZEN}",
        },
    )


@contextmanager
def session() -> Iterator[Session]:
    """A session in a transaction that is committed at the end, or rolled back when something is raised.

    Raises:
        Unavailable: PostgreSQL cannot be reached, or is too busy.
        EngineError: it refuses a statement as it is.
    """
    with _mapped(), _sessions().begin() as opened:
        yield opened


@contextmanager
def reading() -> Iterator[Session]:
    """A session that only reads, without a transaction around its statements.

    Raises:
        Unavailable, EngineError: as `session`. After an outage also once for each connection that was open before.
    """
    with _mapped(), Session(reading_engine(), expire_on_commit=False) as opened:
        yield opened


@contextmanager
def _mapped() -> Iterator[None]:
    """Map errors of the database, because their text holds the statement and all its values, which nobody must read.

    The log gets the cause.
    """
    try:
        yield
    except DBAPIError as error:
        if error.orig is not None and is_away(error.orig):
            raise Unavailable(f"PostgreSQL cannot be reached, or is too busy: {str(error.orig).strip()}") from error
        told = type(error.orig).__name__
        logger.warning("statement_refused", extra={"error": f"{told}: {str(error.orig).strip()}"})
        raise EngineError(f"PostgreSQL refuses a statement ({told})") from error
    except PoolTimeout as error:
        raise Unavailable("all database connections of this process are in use") from error


def is_away(error: BaseException) -> bool:
    """Whether the driver's error means that the server cannot answer now, and not that a statement is wrong."""
    if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        return True
    if type(error) is psycopg2.DatabaseError and error.pgcode is None:
        return True  # libpq has no reply: the server went away during this statement
    return isinstance(error, psycopg2.Error) and (error.pgcode or "").startswith(AWAY)


def connect_hot(url: str | None = None) -> psycopg.Connection:
    """A new autocommit connection for hot statements.

    Raises:
        Unavailable: the server cannot be reached.
    """
    address = make_url(url or settings().database()).set(drivername="postgresql")
    try:
        return psycopg.connect(
            address.render_as_string(hide_password=False),
            autocommit=True,
            options=_HOT_OPTIONS,
            client_encoding="UTF8",
            connect_timeout=5,
            application_name="agentflow hot",
            **_KEEPALIVE,
        )
    except psycopg.OperationalError as error:
        raise Unavailable(f"PostgreSQL cannot be reached: {str(error).strip()}") from None


def after_fork() -> None:
    """Forget the parent's connections, which the parent closes."""
    if engine.cache_info().currsize:
        engine().dispose(close=False)
    if reading_engine.cache_info().currsize:
        reading_engine().dispose(close=False)
    engine.cache_clear()
    reading_engine.cache_clear()
    _sessions.cache_clear()
