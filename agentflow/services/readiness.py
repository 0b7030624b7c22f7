"""Can this installation serve requests? The database is there, its schema is right, and the broker is there."""

import logging
from threading import Lock

from kombu.connection import Connection
from sqlalchemy import select

from agentflow import clock
from agentflow.errors import AgentFlowError
from agentflow.services.transaction import transaction
from agentflow.settings import settings
from agentflow.storage.migrate import check

logger = logging.getLogger(__name__)

OK = "ok"
_BROKER_SECONDS = 2.0
_FRESH_SECONDS = 2.0  # load balancers ask often, and each answer costs connections


class _Last:
    """The last answer, kept for a moment."""

    lock = Lock()
    at: float | None = None
    checks: dict[str, str] = {}


def refuse_wrong_schema() -> None:
    """Make sure, before anything is served, that the schema is this version's.

    Raises:
        WrongSchema: it is not; the message says what to do.
        Unavailable: the database cannot be reached.
    """
    check(settings().database())


def checks() -> dict[str, str]:
    """What was checked, each "ok" or what is wrong, in words that give no address away."""
    with _Last.lock:
        if _Last.at is None or clock.monotonic() - _Last.at > _FRESH_SECONDS:
            _Last.checks = {"database": _database(), "broker": _broker()}
            _Last.at = clock.monotonic()
        return dict(_Last.checks)


def _database() -> str:
    try:
        with transaction() as session:
            session.execute(select(1))
        refuse_wrong_schema()
    except AgentFlowError as error:
        logger.warning("database_not_ready", extra={"error": str(error)})
        return type(error).__doc__ or "not ready"
    return OK


def _broker() -> str:
    try:
        with Connection(settings().broker(), connect_timeout=_BROKER_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=_BROKER_SECONDS)
            connection.default_channel.close()
    except Exception as error:  # whatever the broker's client raises
        logger.warning("broker_not_ready", extra={"error": repr(error)})
        return "The broker cannot be reached."
    return OK
