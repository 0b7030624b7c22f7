"""Deletes all that belongs to a user, in batches that each hold few locks and write little.

The tables are found by their columns, so that those of a new feature are not forgotten: `owner_id` or `user_id` names a
user, `run_id` or `root_id` a run. What has neither belongs to nobody, or goes with what it is a part of.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, CursorResult, FromClause, delete, func, literal_column, select
from sqlalchemy import Table as SqlTable
from sqlalchemy.orm import Session

from agentflow.accounts.tables import User
from agentflow.engine.statuses import RUN_OPEN
from agentflow.storage.tables import GraphHead, Run
from agentflow.table import Table

MOST_ROWS: Final = 5_000
"""Rows that one transaction deletes of a table."""

_RUNS: Final = 20  # runs whose rows are looked for at a time
_GRAPHS: Final = 20  # graphs, with all their versions, that one transaction deletes

KEPT: Final = frozenset({"audit_entries", "credit_transactions"})
"""Tables that name a user and stay: the audit log and the ledger hold numbers and no names."""

_OWN: Final = ("owner_id", "user_id")
_OF_RUN: Final = ("run_id", "root_id")
_HEADS: Final = frozenset({"users", "graphs", "runs"})


def open_runs(session: Session, owner_id: UUID, limit: int) -> Sequence[UUID]:
    """A user's open runs that are not being stopped, parents first: with them their child runs are stopped."""
    query = select(Run.id).where(Run.owner_id == owner_id, Run.status.in_(RUN_OPEN), Run.stop_as.is_(None))
    return session.scalars(query.order_by(Run.depth, Run.id).limit(limit)).all()


def has_open_runs(session: Session, owner_id: UUID) -> bool:
    """Whether any run of a user has not ended."""
    query = select(Run.id).where(Run.owner_id == owner_id, Run.status.in_(RUN_OPEN)).limit(1)
    return session.scalar(query) is not None


def delete_some(session: Session, owner_id: UUID) -> bool:
    """Delete some of what an owner has, of runs only those that have ended.

    Returns:
        whether nothing is left but the user.
    """
    ended = select(Run.id).where(Run.owner_id == owner_id, Run.ended_at.is_not(None))
    runs = session.scalars(ended.order_by(Run.id).limit(_RUNS)).all()
    if runs:
        if all(_delete(session, table, column.in_(runs)) for table, column in tables_of(_OF_RUN, but=_OWN)):
            session.execute(delete(Run).where(Run.id.in_(runs)))
        return False
    if has_open_runs(session, owner_id):  # begun by a request that was under way
        return False
    graphs = session.scalars(select(GraphHead.id).where(GraphHead.owner_id == owner_id).limit(_GRAPHS)).all()
    if graphs:
        session.execute(delete(GraphHead).where(GraphHead.id.in_(graphs)))
        return False
    return all(_delete(session, table, column == owner_id) for table, column in tables_of(_OWN))


def delete_user(session: Session, user_id: UUID) -> None:
    """Delete the user, of whom nothing else is left."""
    session.execute(delete(User).where(User.id == user_id, User.deleting_at.is_not(None)))


def tables_of(columns: Sequence[str], but: Sequence[str] = ()) -> Iterator[tuple[SqlTable, ColumnElement[Any]]]:
    """Tables with one of these columns, and none of `but`; those that refer to others come before them."""
    for table in reversed(Table.metadata.sorted_tables):
        named = [name for name in columns if name in table.columns]
        if named and table.name not in _HEADS | KEPT and not any(name in table.columns for name in but):
            yield table, table.columns[named[0]]


def _delete(session: Session, table: FromClause, wanted: ColumnElement[bool]) -> bool:
    """Delete rows of a table, `MOST_ROWS` at most; returns whether there were no more."""
    assert isinstance(table, SqlTable)
    place: ColumnElement[Any] = literal_column(f"{table.name}.ctid")
    some = select(place).select_from(table).where(wanted).limit(MOST_ROWS).scalar_subquery()
    # As an array: PostgreSQL then goes to the rows directly, and reads the table for none of them.
    done = session.execute(delete(table).where(place == func.any(func.array(some))))
    assert isinstance(done, CursorResult)
    return done.rowcount < MOST_ROWS
