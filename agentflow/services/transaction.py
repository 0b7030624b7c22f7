"""In which database transaction does a use case run, and what follows once it is committed?

Work is published only after the commit that made it: a worker must not hear of what it cannot see yet. What the
process does not live to publish is found by recovery, because the rows are their own outbox.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from agentflow.errors import EngineError
from agentflow.storage.connect import engine, session
from agentflow.storage.statement_limits import limit_connections, limit_transaction

_FOLLOWING = "agentflow_after_commit"


@contextmanager
def transaction(statement_seconds: float | None = None) -> Iterator[Session]:
    """A session whose work is committed at the end, or rolled back when something is raised.

    Args:
        statement_seconds: PostgreSQL gives up a statement after so long; None: after `LIMIT_SECONDS`.

    Raises:
        Unavailable: PostgreSQL cannot be reached, or is too busy.
        EngineError: it refuses a statement as it is.
    """
    limit_connections(engine())
    following: list[Callable[[], object]] = []
    with session() as opened:
        opened.info[_FOLLOWING] = following
        if statement_seconds is not None:
            limit_transaction(opened, statement_seconds)
        yield opened
    for act in following:
        act()


def after_commit(session: Session, act: Callable[[], object]) -> None:
    """Call `act` when the transaction is committed, and not at all if it is rolled back. It must not raise.

    Raises:
        EngineError: `session` was not opened by `transaction`, so nobody would call it.
    """
    following = session.info.get(_FOLLOWING)
    if following is None:
        raise EngineError("what follows a commit needs a session from services.transaction")
    following.append(act)
