"""Opens and commits database transactions, and does what follows a commit.

A use case takes a session and leaves the transaction to its caller. One that needs several transactions returns
`Steps`, which its caller carries out.

Work is published after the commit that made it, because a worker must be able to see it. If the process dies before,
recovery publishes it: the rows are their own outbox.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, TypeVar

from sqlalchemy.orm import Session

from agentflow.errors import EngineError
from agentflow.storage import connect
from agentflow.storage.connect import engine, reading_engine, session
from agentflow.storage.statement_limits import limit_connections, limit_transaction

_FOLLOWING = "agentflow_after_commit"
_witness: ContextVar[Callable[[Session], None] | None] = ContextVar("witness", default=None)


@contextmanager
def transaction(statement_seconds: float | None = None, *, looks: bool = False) -> Iterator[Session]:
    """A session whose work is committed at the end, or rolled back when something is raised.

    Args:
        statement_seconds: PostgreSQL gives up a statement after so long; None: after `LIMIT_SECONDS`.
        looks: it changes nothing, so no witness is told of it.

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
        if not looks and (see := _witness.get()) is not None:
            see(opened)
    for act in following:
        act()


@contextmanager
def reading() -> Iterator[Session]:
    """A session for a look that is taken often: it only reads, and each statement is a transaction of its own.

    Raises:
        Unavailable: PostgreSQL cannot be reached, or is too busy.
        EngineError: it refuses a statement as it is.
    """
    limit_connections(reading_engine())
    with connect.reading() as opened:
        yield opened


def witness(see: Callable[[Session], None] | None) -> None:
    """Call `see` at the end of each transaction of this thread, before its commit; None: no longer."""
    _witness.set(see)


def after_commit(session: Session, act: Callable[[], object]) -> None:
    """Call `act` when the transaction is committed, and not at all if it is rolled back. It must not raise.

    Raises:
        EngineError: `session` was not opened by `transaction`, so nobody would call it.
    """
    following = session.info.get(_FOLLOWING)
    if following is None:
        raise EngineError("what follows a commit needs a session from services.transaction")
    following.append(act)


class Step:
    """One transaction of a use case that needs several: `act(session, *values)`.

    Args:
        act: what it does.
        values: arguments beside the session.
        statement_seconds: see `transaction`.
    """

    looks: ClassVar[bool] = False

    def __init__(self, act: Callable[..., Any], *values: Any, statement_seconds: float | None = None) -> None:
        self._act, self._values, self._statement_seconds = act, values, statement_seconds

    def carry_out(self) -> Any:
        """Carry it out in a transaction of its own; returns its result."""
        with transaction(self._statement_seconds, looks=self.looks) as session:
            return self._act(session, *self._values)


class Look(Step):
    """A step that changes nothing: what follows may still be refused."""

    looks = True


_Result = TypeVar("_Result")

Steps = Generator[Step, Any, _Result]
"""A use case of several transactions: yields each, receives its result, and returns the result of all."""


def carry_out(steps: Steps[_Result]) -> _Result:
    """Carry out a use case of several transactions in turn. What is committed stays, whatever follows.

    Raises:
        Exception: what a step raises, unless the use case handles it.
    """
    try:
        step = next(steps)
        while True:
            try:
                came = step.carry_out()
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(came)
    except StopIteration as end:
        result: _Result = end.value
        return result
    finally:
        steps.close()  # releases what it holds over its steps, also when this process is told to end
