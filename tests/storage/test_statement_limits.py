"""A statement that takes too long is given up, and the limit of one transaction does not outlast it."""

from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from agentflow.storage.connect import engine
from agentflow.storage.statement_limits import LIMIT_SECONDS, limit_connections, limit_transaction

LIMIT = text("SELECT current_setting('statement_timeout')")


def test_each_new_connection_has_the_limit_and_a_rollback_leaves_it(database_url: str) -> None:
    made = engine(database_url)
    limit_connections(made)
    limit_connections(made)  # twice is once
    with Session(made) as session:
        assert session.scalar(LIMIT) == f"{LIMIT_SECONDS:.0f}s"
        session.rollback()
        assert session.scalar(LIMIT) == f"{LIMIT_SECONDS:.0f}s"
    made.dispose()


def test_a_transactions_own_limit_holds_for_it_alone(session_of: Callable[[], Session]) -> None:
    with session_of() as session:
        before = session.scalar(LIMIT)
        limit_transaction(session, 0.02)
        with pytest.raises(OperationalError, match="statement timeout"):
            session.execute(text("SELECT pg_sleep(10)"))
        session.rollback()
        assert session.scalar(LIMIT) == before
