"""Checks whether this installation can serve requests: database and broker answer, and the schema is right."""

import logging
from collections.abc import Callable, Mapping
from threading import Condition

from cachetools import TTLCache, cached
from kombu.connection import Connection
from sqlalchemy import select

from agentflow import clock
from agentflow.dispatch.publish import patience
from agentflow.errors import AgentFlowError
from agentflow.logs import log_outage
from agentflow.services.transaction import transaction
from agentflow.settings import settings
from agentflow.storage.migrate import await_schema, check

logger = logging.getLogger(__name__)

OK = "ok"
_BROKER_SECONDS = 2.0
_FRESH_SECONDS = 2.0  # load balancers ask often, and each check costs connections


def await_database(say: Callable[[str], object]) -> None:
    """Wait, before anything is served, for a database that may be starting, too, and check its schema.

    Args:
        say: gets a line to show now and then while it waits.

    Raises:
        EngineError: its schema is wrong, or it does not answer within `database_patience`; says what to do.
    """
    await_schema(settings().database(), settings().database_patience, say)


@cached(TTLCache(1, _FRESH_SECONDS, clock.monotonic), condition=Condition())
def checks() -> Mapping[str, str]:
    """The checks, each "ok" or what is wrong, in words without addresses."""
    return {"database": _database(), "broker": _broker()}


def _database() -> str:
    try:
        with transaction() as session:
            session.execute(select(1))
        check(settings().database())
    except AgentFlowError as error:
        log_outage(logger, "database_not_ready", error)
        return type(error).__doc__ or "not ready"
    return OK


def _broker() -> str:
    try:
        url = settings().broker()
        options = patience(url, _BROKER_SECONDS)
        with Connection(url, connect_timeout=_BROKER_SECONDS, transport_options=options) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=_BROKER_SECONDS)
            connection.default_channel.close()
    except Exception as error:  # whatever the broker's client raises
        log_outage(logger, "broker_not_ready", error)
        return "The broker cannot be reached."
    return OK
