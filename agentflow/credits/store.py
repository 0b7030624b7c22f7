"""Reads and writes balances and the ledger. How a balance changes stands in `storage/hot/sql/15_credits.sql`."""

from collections.abc import Sequence
from datetime import UTC
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from agentflow.clock import now
from agentflow.credits.tables import CreditBalance, CreditTransaction, TransactionType

MOST: Final = 10**15
"""Credits that one owner may have: sums of them are exact everywhere, also in JSON."""


class Balance(NamedTuple):
    """What an owner has: `balance`, the sum of their transactions; of it `held` is held back. `spent`: used today."""

    balance: int = 0
    held: int = 0
    daily_limit: int | None = None
    spent: int = 0

    @property
    def available(self) -> int:
        """What they may spend."""
        return self.balance - self.held


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
    if row is None:
        return Balance()
    spent = row.spent if row.day == now().astimezone(UTC).date() else 0
    return Balance(row.balance, row.held, row.daily_limit, spent)


def post(session: Session, owner_id: UUID, low: int | None) -> None:
    """Add to the ledger what an owner's node executions have cost and is not in it yet.

    Args:
        session: the transaction.
        owner_id: the owner.
        low: they are low on credits with fewer than so many; None: nobody is.
    """
    session.execute(
        text(
            "SELECT agentflow_post_charges(:owner, CAST(:low AS bigint)) IS NULL "
            "WHERE EXISTS (SELECT FROM credit_holds WHERE owner_id = :owner AND price IS NOT NULL)"
        ),
        {"owner": owner_id, "low": low},
    )


def was_given(session: Session, cause: str) -> bool:
    """Whether something was given for this cause."""
    return session.scalar(select(CreditTransaction.number).where(CreditTransaction.cause == cause)) is not None


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
    FULL JOIN (SELECT t.run_id, t.node, t.idx, sum(t.paid) AS paid FROM (
                   SELECT run_id, node, idx, -amount AS paid FROM credit_transactions WHERE type = 'USAGE'
                   UNION ALL SELECT run_id, node, idx, price FROM credit_holds WHERE price > 0) t
               WHERE EXISTS (SELECT FROM node_executions n WHERE n.run_id = t.run_id
                             AND n.node = t.node AND n.idx = t.idx)
               GROUP BY t.run_id, t.node, t.idx HAVING sum(t.paid) <> 0) t
    USING (run_id, node, idx) WHERE coalesce(e.charged, 0) <> coalesce(t.paid, 0)
    UNION ALL
    SELECT 'of the balance of ' || b.owner_id || ' ' || b.held || ' are held back, for its node executions '
           || coalesce(h.sum, 0)
    FROM credit_balances b JOIN users u ON u.id = b.owner_id AND u.deleting_at IS NULL
    LEFT JOIN (SELECT owner_id, sum(amount) AS sum FROM credit_holds GROUP BY owner_id) h USING (owner_id)
    WHERE b.held <> coalesce(h.sum, 0)
    LIMIT :most
""")


def disagreements(session: Session, most: int) -> Sequence[str]:
    """Where balances, ledger and node executions do not agree, in words; at most `most`."""
    return session.scalars(_DISAGREEMENTS, {"most": most}).all()
