"""Limits how long one statement may take, so that one client's request does not keep the shared server busy."""

from typing import Any

from sqlalchemy import Engine, event, func, select
from sqlalchemy.orm import Session

LIMIT_SECONDS = 10.0
"""For a statement of a process that serves requests."""

_SETTING = "statement_timeout"  # waiting for locks counts, too


def limit_connections(engine: Engine) -> None:
    """Limit each statement to `LIMIT_SECONDS` on every connection that `engine` makes from now on.

    Set once a connection: a statement at the head of each transaction would be a round trip of its own.
    """
    if not event.contains(engine, "connect", _limit):
        event.listen(engine, "connect", _limit)


def _limit(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config(%s, %s, false)", [_SETTING, _milliseconds(LIMIT_SECONDS)])
    connection.commit()


def limit_transaction(session: Session, seconds: float) -> None:
    """Set another limit for the rest of this transaction."""
    session.execute(select(func.set_config(_SETTING, _milliseconds(seconds), True)))


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))
