"""Reads and writes balances and the ledger. How a balance changes stands in `storage/hot/sql/15_credits.sql`."""

from collections.abc import Sequence
from datetime import UTC
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from agentflow.clock import now
from agentflow.credits.tables import CreditBalance, CreditHold, CreditTransaction, TransactionType

MOST: Final = 10**15
"""Credits that one owner may have: sums of them are exact everywhere, also in JSON."""


class Balance(NamedTuple):
    """What an owner has. `held` is not in `balance`; `spent` counts what is held, too."""

    balance: int = 0
    held: int = 0
    daily_limit: int | None = None
    spent: int = 0


class Gift(NamedTuple):
    """A top-up, a grant or a refund.

    Attributes:
        cause: what it was caused by; given once in all of the ledger.
        made_by: the admin; None: nobody here.
    """

    owner_id: UUID
    type: TransactionType
    amount: int
    reason: str
    cause: str
    made_by: UUID | None = None


def balance(session: Session, owner_id: UUID) -> Balance:
    """What an owner has."""
    row = session.get(CreditBalance, owner_id, populate_existing=True)
    held = session.scalar(select(func.coalesce(func.sum(CreditHold.amount), 0)).where(CreditHold.owner_id == owner_id))
    if row is None:
        return Balance()
    spent = row.spent if row.day == now().astimezone(UTC).date() else 0
    return Balance(row.balance, int(held or 0), row.daily_limit, spent)


def give(session: Session, gift: Gift, low: int | None = None) -> tuple[str, CreditTransaction | None]:
    """Give credits, unless the cause was there before.

    Args:
        session: the transaction.
        gift: what is given.
        low: the owner stays low on credits with fewer than so many; None: nobody is.

    Returns:
        `given`, `before` or `full` (the owner would have more than `MOST`), and the transaction of the first two.
    """
    row = session.execute(
        text(
            "SELECT * FROM agentflow_give_credits(:owner_id, :type, :amount, :reason, :cause, "
            "CAST(:made_by AS uuid), :most, CAST(:low AS bigint))"
        ),
        {**gift._asdict(), "most": MOST, "low": low},
    ).one()
    if row.verdict == "full":
        return row.verdict, None
    return row.verdict, session.get_one(CreditTransaction, (row.of_owner, row.number))


def transactions(session: Session, owner_id: UUID, below: int | None, limit: int) -> Sequence[CreditTransaction]:
    """An owner's transactions, the newest first, below the number `below`."""
    query = select(CreditTransaction).where(CreditTransaction.owner_id == owner_id)
    if below is not None:
        query = query.where(CreditTransaction.number < below)
    return session.scalars(query.order_by(CreditTransaction.number.desc()).limit(limit)).all()


def set_daily_limit(session: Session, owner_id: UUID, limit: int | None) -> None:
    """Set how many credits an owner may spend a day; None: as many as the installation lets everybody."""
    session.execute(insert(CreditBalance).values(owner_id=owner_id).on_conflict_do_nothing())
    session.execute(update(CreditBalance).where(CreditBalance.owner_id == owner_id).values(daily_limit=limit))


def shortfall(session: Session, root_id: UUID) -> str | None:
    """What the owner of a tree of runs could not pay for last, in words; None: nothing."""
    found: str | None = session.scalar(text("SELECT shortfall FROM run_costs WHERE root_id = :root"), {"root": root_id})
    return found


_DISAGREEMENTS: Final = text("""
    SELECT 'the balance of ' || b.owner_id || ' is ' || b.balance || ', its transactions add up to '
           || coalesce(t.sum, 0) AS what
    FROM credit_balances b LEFT JOIN (
        SELECT owner_id, sum(amount) AS sum FROM credit_transactions GROUP BY owner_id) t USING (owner_id)
    WHERE b.balance <> coalesce(t.sum, 0)
    UNION ALL
    SELECT 'node execution ' || run_id || '/' || node || '/' || idx || ' notes ' || coalesce(e.charged, 0)
           || ' credits, the ledger has ' || coalesce(t.paid, 0)
    FROM (SELECT run_id, node, idx, (stats ->> 'charged')::numeric AS charged FROM node_executions
          WHERE stats ? 'charged') e
    FULL JOIN (SELECT t.run_id, t.node, t.idx, -sum(t.amount) AS paid FROM credit_transactions t
               WHERE t.type = 'USAGE' AND EXISTS (SELECT FROM node_executions n WHERE n.run_id = t.run_id
                                                  AND n.node = t.node AND n.idx = t.idx)
               GROUP BY t.run_id, t.node, t.idx HAVING sum(t.amount) <> 0) t
    USING (run_id, node, idx) WHERE coalesce(e.charged, 0) <> coalesce(t.paid, 0)
    UNION ALL
    SELECT 'for node execution ' || run_id || '/' || node || '/' || idx || ' ' || coalesce(h.amount, 0)
           || ' credits are held back, the ledger has ' || coalesce(t.held, 0)
    FROM credit_holds h FULL JOIN (
        SELECT run_id, node, idx, -sum(amount) AS held FROM credit_transactions
        WHERE type = 'RESERVE' GROUP BY run_id, node, idx HAVING sum(amount) <> 0) t
    USING (run_id, node, idx) WHERE coalesce(h.amount, 0) <> coalesce(t.held, 0)
    LIMIT :most
""")


def disagreements(session: Session, most: int) -> Sequence[str]:
    """Where balances, ledger and node executions do not agree, in words; at most `most`."""
    return session.scalars(_DISAGREEMENTS, {"most": most}).all()
